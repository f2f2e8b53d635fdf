import { runOpCases } from '../../tests/op_cases.js';

// Every op on every device that is present, with the kernels that this processor gets (or TSTRAIN_ISA asks for).
await runOpCases();
