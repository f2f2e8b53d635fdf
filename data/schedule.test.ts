import { describe, expect, it } from 'vitest';
import { UserError } from '../errors.js';
import { measureRun, type RunOptions, runSchedule } from './schedule.js';

const options: RunOptions = {
  perDeviceTrainBatchSize: 2,
  gradientAccumulationSteps: 2,
  packing: false,
  modelMaxLength: 16,
  dataOrder: 'shuffled',
  seed: 42,
  numTrainEpochs: 2,
  maxSteps: -1,
};
const lengths = Int32Array.from({ length: 43 }, (_, i) => 1 + ((7 * i) % 16));

/** 40 examples make 10 steps of 2 × 2 an epoch. */
const ten = new Int32Array(40).fill(1);

describe('runSchedule', () => {
  it.each([
    [3, -1, 30, 3],
    [2.1, -1, 21, 3],
    [0.01, -1, 1, 1],
    [2.11, -1, 22, 3],
    [3, 7, 7, 1],
    [3, 10, 10, 1],
    [0.1, 25, 25, 3],
    [3, 0, 30, 3],
  ])(
    '%d epochs, max_steps %d: %d steps over %d epochs',
    async (numTrainEpochs, maxSteps, totalSteps, epochs) => {
      const run = await runSchedule(ten, { ...options, numTrainEpochs, maxSteps });
      expect(run.totalSteps).toBe(totalSteps);
      expect(run.epochs).toBe(epochs);
      const steps = [...run.steps()];
      expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: totalSteps }, (_, i) => i));
      expect(steps.at(-1)!.epoch).toBe(epochs - 1);
    },
  );

  it('gives the incomplete last group of an epoch its own step', async () => {
    const steps = [...(await runSchedule(lengths, { ...options, gradientAccumulationSteps: 4 })).steps()];
    // 43 rows are 22 micro-batches: 5 groups of 4 and one of 2.
    expect(steps.map(({ microBatches }) => microBatches.length)).toEqual([
      4, 4, 4, 4, 4, 2, 4, 4, 4, 4, 4, 2,
    ]);
    expect(steps.map(({ epoch }) => epoch)).toEqual([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
    expect(steps.filter(({ endsEpoch }) => endsEpoch).map(({ step }) => step)).toEqual([5, 11]);
    expect(steps[0].epochsDone).toBe(4 / 22);
    expect(steps[5].epochsDone).toBe(1);
    expect(steps[6].epochsDone).toBe(1 + 4 / 22);
    for (const epoch of [0, 1]) {
      const visited = steps
        .filter((step) => step.epoch === epoch)
        .flatMap(({ microBatches }) => microBatches);
      expect(visited.flatMap((indices) => [...indices]).sort((a, b) => a - b)).toEqual([...lengths.keys()]);
    }
  });

  it.each([false, true])('starts anywhere with the same steps, packing %s', async (packing) => {
    const run = await runSchedule(lengths, { ...options, packing, numTrainEpochs: 3.3 });
    const all = [...run.steps()];
    expect(all).toHaveLength(run.totalSteps);
    for (let first = 0; first <= run.totalSteps; first++)
      expect([...run.steps(first)]).toEqual(all.slice(first));
  });

  it('counts the steps of every epoch by itself when packing', async () => {
    const packed: RunOptions = {
      ...options,
      packing: true,
      perDeviceTrainBatchSize: 1,
      gradientAccumulationSteps: 1,
    };
    const { epoch } = await runSchedule(lengths, packed);
    const counts = [0, 1, 2, 3, 4].map((number) => epoch(number).steps);
    const sum = counts.slice(0, 4).reduce((a, b) => a + b);
    expect(await runSchedule(lengths, { ...packed, numTrainEpochs: 4 })).toMatchObject({ totalSteps: sum });
    expect(await runSchedule(lengths, { ...packed, numTrainEpochs: 4.5 })).toMatchObject({
      totalSteps: sum + Math.ceil(counts[4] / 2),
    });
    const run = await runSchedule(lengths, { ...packed, maxSteps: sum + 1 });
    expect(run.epochs).toBe(5);
    expect([sum - 1, sum].map(run.epochOf)).toEqual([3, 4]);
    expect([4, 5].map(run.stepsIn)).toEqual([sum, sum + 1]);
  });

  it('needs an example', async () => {
    await expect(runSchedule(new Int32Array(0), options)).rejects.toThrow(
      'a run needs at least one example.',
    );
  });

  it.each([
    [{ maxSteps: 1e15 }, { totalSteps: 1e15, epochs: 1e14 }],
    [{ numTrainEpochs: 1e14 }, { totalSteps: 1e15, epochs: 1e14 }],
    // 40 tokens in rows of 16 make one step. Not all of the packed epochs are counted.
    [
      { maxSteps: 1e15, packing: true },
      { totalSteps: 1e15, epochs: 1e15 },
    ],
  ])('walks nothing to count %j', async (many, expected) => {
    const started = performance.now();
    const run = await runSchedule(ten, { ...options, ...many });
    expect(run).toMatchObject(expected);
    if (!('packing' in many)) {
      const [last] = run.steps(1e15 - 1);
      expect(last).toMatchObject({ step: 1e15 - 1, epoch: 1e14 - 1, endsEpoch: true });
    }
    // Walking them would take years.
    expect(performance.now() - started).toBeLessThan(20_000);
  });

  it('refuses what cannot be counted', async () => {
    await expect(runSchedule(ten, { ...options, packing: true, numTrainEpochs: 1e15 })).rejects.toThrow(
      new UserError(
        'num_train_epochs is 1000000000000000: with packing each epoch makes steps of its own, and of 40 examples no more ' +
          'than 370371 epochs are packed to count them; give max_steps',
      ),
    );
    await expect(runSchedule(ten, { ...options, numTrainEpochs: 1e15 })).rejects.toThrow(
      /^num_train_epochs is 1000000000000000: that makes more steps than can be counted/,
    );
    await expect(runSchedule(ten, { ...options, maxSteps: 1e300 })).rejects.toThrow(
      /^max_steps is 1e\+300: /,
    );
  });

  it('hears others while it counts packed epochs', async () => {
    let heard = 0;
    const timer = setInterval(() => heard++, 1);
    await runSchedule(lengths, { ...options, packing: true, numTrainEpochs: 500 });
    clearInterval(timer);
    expect(heard).toBeGreaterThan(3);
  });

  it('packs four times as many rows in about four times the time', async () => {
    const time = async (rows: number) => {
      const lengths = Int32Array.from({ length: rows }, (_, i) => 40 + ((i * 7919) % 180));
      const start = process.cpuUsage();
      await runSchedule(lengths, { ...options, packing: true, modelMaxLength: 512, numTrainEpochs: 3 });
      return process.cpuUsage(start).user;
    };
    // Time on the processor, of which a busy machine gives others a part; anything quadratic takes 16 times as long.
    const least = async (rows: number) => {
      let best = Number.POSITIVE_INFINITY;
      for (let i = 0; i < 4; i++) best = Math.min(best, await time(rows));
      return best;
    };
    expect((await least(40_000)) / (await least(10_000))).toBeLessThan(10);
  });
});

describe('measureRun', () => {
  it('adds up what the steps hold', async () => {
    const run = await runSchedule(Int32Array.of(3, 5, 4, 1), {
      ...options,
      dataOrder: 'sequential',
      numTrainEpochs: 2,
    });
    expect(
      measureRun(run.steps(), { lengths: Int32Array.of(3, 5, 4, 1), labelCounts: Int32Array.of(1, 0, 3, 0) }),
    ).toEqual({
      microBatches: 4,
      tokens: 26,
      labelTokens: 8,
      largest: Int32Array.of(0, 1),
    });
  });
});
