import { runDeclared } from './case_runner.js';
import '../engine/model/goldens.test.js';

// node dist/tests/run_goldens.js, in a bundle (see run_op_cases.ts): logits, losses and gradients of small models against
// PyTorch's, on the device that TSTRAIN_DEVICE names. One line of JSON.

console.log(JSON.stringify(await runDeclared()));
