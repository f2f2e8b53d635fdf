import { runOpCases } from '../../tests/op_cases.js';

// The op cases with the kernels for AVX-512; skipped where the processor has none.
await runOpCases({ instructionSet: 'avx512' });
