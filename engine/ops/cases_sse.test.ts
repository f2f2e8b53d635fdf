import { runOpCases } from '../../tests/op_cases.js';

// The op cases with the kernels for processors without AVX2.
await runOpCases({ instructionSet: 'sse' });
