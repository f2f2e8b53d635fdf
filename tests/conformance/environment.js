import { setTestEnvs } from '@tensorflow/tfjs-core/dist/jasmine_util';
import '../../engine/tfjs/index.js';

// run.mjs puts the backend's name in the place of BACKEND_UNDER_TEST.
setTestEnvs([{ name: BACKEND_UNDER_TEST, backendName: BACKEND_UNDER_TEST, isDataSync: true }]);
