import { expect, it } from 'vitest';
import { kernelTimes } from './questions.js';

it('adds up the time of each kernel from what ncu prints', () => {
  const csv = `==PROF== Connected to process 1
"ID","Process ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","1","void adamw<float, bf16>(T1 *)","gpu__time_duration.sum","ns","1,500"
"1","1","gemm","gpu__time_duration.sum","us","20.5"
"2","1","void adamw<float, bf16>(T1 *)","gpu__time_duration.sum","ns","500"
==PROF== Disconnected
`;
  expect(kernelTimes(csv)).toEqual([
    { kernel: 'gemm', launches: 1, microseconds: 20.5 },
    { kernel: 'void adamw<float, bf16>(T1 *)', launches: 2, microseconds: 2 },
  ]);
  expect(kernelTimes('==ERROR== none')).toEqual([]);
});
