import '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops';
import '@tensorflow/tfjs-core/dist/register_all_gradients';
import { setTestEnvs } from '@tensorflow/tfjs-core/dist/jasmine_util';
import '../../engine/backend/index.js';

// run.mjs puts the backend's name in the place of BACKEND_UNDER_TEST.
setTestEnvs([{ name: BACKEND_UNDER_TEST, backendName: BACKEND_UNDER_TEST, isDataSync: true }]);
