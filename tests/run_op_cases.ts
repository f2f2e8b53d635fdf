import { runDeclared } from './case_runner.js';
import { runOpCases } from './op_cases.js';

// node dist/tests/run_op_cases.js DEVICE, in a bundle, where case_runner.ts stands in vitest's place: all op cases on the
// device. One line of JSON.

const [, , device] = process.argv;
await runOpCases({ devices: [device] });
console.log(JSON.stringify(await runDeclared()));
