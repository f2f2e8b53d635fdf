import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { TrainingBatch } from '../../batch.js';
import { endToEnd } from '../../tests/documents.js';
import { pairwise, RewardModel, scoresOf } from '../../tests/pairwise.js';
import { fill, readSafetensors } from '../../tests/read_safetensors.js';
import { describeShared, shared } from '../../tests/shared.js';
import { silentHooks } from '../../tests/silent_hooks.js';
import { defaultDevice } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';
import { parseLlamaConfig } from '../model/config.js';
import { Gradients } from '../model/parameters.js';
import { AdamW } from '../optim/adamw.js';
import { evaluate, train } from './loop.js';
import type { TrainLine } from './metrics.js';

// A second objective through the same loop: a reward model on pairs of texts, against transformers'
// LlamaForSequenceClassification in float64 (../shared/goldens/reward). Tolerances are those stated there for a float32
// engine.
const goldens = shared('goldens/reward');

interface Trace {
  pairs: { prompt: number[]; a: number[]; b: number[]; source_row: number }[];
  pairs_per_step: number;
  lr: number;
  betas: [number, number];
  eps: number;
  steps: { loss: number; grad_norm: number; score_a: number[]; score_b: number[] }[];
}

function openModel(): RewardModel {
  const { architectures: _, ...config } = JSON.parse(readFileSync(join(goldens, 'config.json'), 'utf8'));
  const model = new RewardModel(parseLlamaConfig(config, goldens), defaultDevice(), 'fp32');
  const file = readSafetensors(join(goldens, 'model.safetensors'));
  fill(model.parameters, (name) => file.get(name));
  return model;
}

/** Pairs of texts, the preferred one first, laid end to end. */
const batchOf = (texts: number[][], rows: number[]): TrainingBatch =>
  endToEnd(
    texts.map((ids) => ({ ids })),
    rows,
  );

describeShared('a reward model on pairs equals the reference', ['goldens/reward'], () => {
  const largest = (values: ArrayLike<number>) =>
    Array.from(values).reduce((m, x) => Math.max(m, Math.abs(x)), 0);

  it('in scores, loss and gradients', async () => {
    const model = openModel();
    const io = readSafetensors(join(goldens, 'io.safetensors'));
    const textsOf = (side: string) => {
      const { data, shape } = io.get(`${side}.input_ids`)!;
      const mask = io.get(`${side}.attention_mask`)!.data;
      return Array.from({ length: shape[0] }, (_, i) =>
        Array.from(data.subarray(i * shape[1], (i + 1) * shape[1])).filter((_, t) => mask[i * shape[1] + t]),
      );
    };
    const [a, b] = [textsOf('a'), textsOf('b')];
    const batch = batchOf(
      a.flatMap((text, i) => [text, b[i]]),
      [0, 1, 2, 3, 4],
    );
    const scores = scoresOf(model, batch);
    a.forEach((_, i) => {
      expect(Math.abs(scores[2 * i] - io.get('a.score')!.data[i])).toBeLessThanOrEqual(1e-4);
      expect(Math.abs(scores[2 * i + 1] - io.get('b.score')!.data[i])).toBeLessThanOrEqual(1e-4);
    });

    const gradients = new Gradients(model.parameters);
    const sums = NativeTensor.onHeap(defaultDevice(), 'float64', [2]);
    const objective = pairwise(model);
    objective.forwardBackward(batch, 1 / 5, gradients, sums);
    const expected = io.get('loss')!.data[0];
    const [lossSum, scoreSum] = sums.read();
    expect(Math.abs(lossSum / 5 - expected)).toBeLessThanOrEqual(2e-5);
    expect(scoreSum).toBeCloseTo(
      scores.reduce((sum, x) => sum + x, 0),
      4,
    );
    const means = (await evaluate(objective, [batch], () => undefined))!;
    expect(Math.abs(means.eval_loss - expected)).toBeLessThanOrEqual(2e-5);
    expect(means.eval_score).toBeCloseTo(scoreSum / 5, 4);

    const flat = gradients.flat.floats();
    for (const { name, offset, size } of model.parameters.entries) {
      const reference = io.get(`grad.${name}`)!.data;
      const off = largest(reference.map((x, i) => x - flat[offset + i]));
      expect(off, name).toBeLessThanOrEqual(5e-5 * largest(reference));
      expect(reference.length).toBe(size);
    }
    sums.dispose();
    gradients.dispose();
    model.dispose();
  });

  it('over a run', async () => {
    const trace: Trace = JSON.parse(readFileSync(join(goldens, 'trace.json'), 'utf8'));
    const model = openModel();
    const gradients = new Gradients(model.parameters);
    const optimizer = new AdamW(model.parameters, {
      beta1: trace.betas[0],
      beta2: trace.betas[1],
      epsilon: trace.eps,
      weightDecay: 0,
    });
    const steps = trace.steps.map((_, step) => {
      const at = step * trace.pairs_per_step;
      const pairs = trace.pairs.slice(at, at + trace.pairs_per_step);
      const texts = pairs.flatMap(({ prompt, a, b }) => [
        [...prompt, ...a],
        [...prompt, ...b],
      ]);
      const batches = [
        batchOf(
          texts,
          pairs.map(({ source_row }) => source_row),
        ),
      ];
      return { step, epochsDone: 0, endsEpoch: false, batches };
    });
    const lines: TrainLine[] = [];
    await train({
      objective: pairwise(model),
      gradients,
      optimizer,
      steps,
      options: {
        schedule: {
          type: 'constant',
          learningRate: trace.lr,
          warmupSteps: 0,
          totalSteps: trace.steps.length,
        },
        maxGradNorm: 0,
        lossNormalization: 'token_mean',
        loggingSteps: 1,
        evaluateEvery: 'no',
        saveEvery: 'no',
      },
      hooks: { ...silentHooks, log: (line) => lines.push(line as TrainLine) },
    });
    expect(lines.length).toBe(trace.steps.length);
    trace.steps.forEach(({ loss, grad_norm, score_a, score_b }, i) => {
      expect(Math.abs(lines[i].loss - loss), `loss of step ${i + 1}`).toBeLessThanOrEqual(1e-4);
      expect(Math.abs(lines[i].grad_norm / grad_norm - 1), `grad_norm of step ${i + 1}`).toBeLessThanOrEqual(
        1e-4,
      );
      const score = [...score_a, ...score_b].reduce((sum, x) => sum + x, 0) / trace.pairs_per_step;
      expect(Math.abs(lines[i].score - score), `score of step ${i + 1}`).toBeLessThanOrEqual(2e-4);
    });
    const final = readSafetensors(join(goldens, 'trace_final.safetensors'));
    const master = model.parameters.master.floats();
    for (const { name, offset } of model.parameters.entries) {
      const reference = final.get(name)!.data;
      const off = largest(reference.map((x, i) => x - master[offset + i]));
      expect(off, name).toBeLessThanOrEqual(1e-4);
    }
    optimizer.dispose();
    gradients.dispose();
    model.dispose();
  });
});
