import { registerGradient } from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops';
import '@tensorflow/tfjs-core/dist/register_all_gradients';
import { setTestEnvs } from '@tensorflow/tfjs-core/dist/jasmine_util';
import { gradients } from '../../engine/tfjs/gradients.js';
import '../../engine/tfjs/index.js';

// The project's own gradients, which step back behind TF.js's where those are registered, are under test as well.
if (BACKEND_UNDER_TEST === 'native') for (const gradient of gradients) registerGradient(gradient);

// run.mjs puts the backend's name in the place of BACKEND_UNDER_TEST.
setTestEnvs([{ name: BACKEND_UNDER_TEST, backendName: BACKEND_UNDER_TEST, isDataSync: true }]);
