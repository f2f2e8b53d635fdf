// The order matters: the environment to test is set before the specs, which are defined as they are imported.
import './environment.js';
import '@tensorflow/tfjs-core/dist/tests';

export { fallbackCounts } from '../../engine/tfjs/index.js';
