import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { buildCardPrograms, buildSimulator, simulated } from '../../tests/cudasim/run.mjs';
import { kernelTimes, PARTS } from './questions.js';

beforeAll(() => {
  buildSimulator();
  buildCardPrograms();
}, 300_000);
afterAll(() => {
  vi.unstubAllEnvs();
});

it('asks the simulated card how fast AdamW goes over the bus, and what moves there', async () => {
  for (const [name, value] of Object.entries(simulated(null))) vi.stubEnv(name, value);
  const { ask, limit } = PARTS.a.find(({ name }) => name === 'AdamW over the bus')!;
  const answer = await ask({ seconds: limit, scratch: '', simulated: true });
  const rate = '\\d+\\.\\d';
  expect(answer).toEqual({
    said: expect.stringMatching(
      `^GB/s each way: float32 moments ${rate}\\d ms, ${rate}; bfloat16 moments ${rate}\\d ms, ${rate}; ` +
        `copies both ways at once ${rate}$`,
    ),
    data: {
      // Two moments, and two bytes that bf16 leaves of a weight.
      updates: {
        parameters: 4096,
        float32: expect.objectContaining({ bytes_each_way: 10 * 4096 }),
        bfloat16: expect.objectContaining({ bytes_each_way: 6 * 4096 }),
      },
      copies: expect.objectContaining({ both_at_once: expect.any(Number) }),
    },
  });
}, 300_000);

it('asks it for tokens/s of texts gone on with, with graphs and without', async () => {
  for (const [name, value] of Object.entries(simulated(null))) vi.stubEnv(name, value);
  const { ask, limit } = PARTS.b.find(({ name }) => name.startsWith('tokens/s'))!;
  const answer = await ask({ seconds: 10 * limit, scratch: '', simulated: true });
  const rates = { 1: expect.any(Number), 16: expect.any(Number) };
  expect(answer).toEqual({
    said: expect.stringMatching(
      /^260k: 1 at once \d+ \(\d+ without graphs\), 16 at once \d+ \(\d+ without graphs\)$/,
    ),
    data: { '260k': { graphs: rates, called: rates } },
  });
}, 300_000);

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
