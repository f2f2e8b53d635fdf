import { runOpCases } from '../../tests/op_cases.js';

// The op cases with the kernels for AVX2.
await runOpCases({ instructionSet: 'avx2' });
