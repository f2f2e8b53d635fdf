import { existsSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { TrainingBatch } from '../../batch.js';
import { endToEnd } from '../../tests/documents.js';
import { fill, readSafetensors } from '../../tests/read_safetensors.js';
import { describeShared, shared } from '../../tests/shared.js';
import { silentHooks } from '../../tests/silent_hooks.js';
import { TINY } from '../../tests/tiny_run.js';
import { defaultDevice } from '../device/addon.js';
import type { FloatType } from '../device/native_tensor.js';
import { parseLlamaConfig } from '../model/config.js';
import { LlamaForCausalLM } from '../model/llama.js';
import { Gradients, Parameters, type Precision } from '../model/parameters.js';
import { AdamW } from '../optim/adamw.js';
import { type TrainingOptions, type TrainingStep, train } from './loop.js';
import type { TrainLine } from './metrics.js';
import { nextToken } from './objective.js';

// Whole runs against traces of PyTorch in float64 (../shared/goldens/train). The float32 tolerances are stated
// there, some fifty times what PyTorch's own float32 shows; the bf16 ones are about three times autocast's.
const goldens = shared('goldens/train');
const TOLERANCE = {
  fp32: { loss: 2e-5, gradNorm: 2e-5, rms: 5e-7, max: 2e-5 },
  bf16: { loss: 1.5e-2, gradNorm: 1.5e-2, rms: 2.5e-4, max: 1.5e-2 },
};
// Gradients that every micro-batch rounds anew stray twice as far.
const NARROW = { ...TOLERANCE.bf16, gradNorm: 3e-2 };

interface Trace {
  spec: {
    micro_batches: number[][];
    accumulation: number;
    epochs: number;
    lr: number;
    weight_decay: number;
    max_grad_norm: number;
    normalise: 'token_mean' | 'mean_of_means';
    total_steps: number;
    warmup_steps: number;
    betas: [number, number];
    eps: number;
  };
  steps: { loss: number; grad_norm: number; lr: number; micro_tokens: number[] }[];
}

const disposables: { dispose(): void }[] = [];
afterEach(() => {
  for (const d of disposables.splice(0)) d.dispose();
});

function start(configFile: string, weightsFile: string, precision: Precision, gradientType: FloatType) {
  const config = parseLlamaConfig(JSON.parse(readFileSync(configFile, 'utf8')), configFile);
  const model = new LlamaForCausalLM(new Parameters(config, defaultDevice(), precision));
  const { parameters } = model;
  const weights = readSafetensors(weightsFile);
  fill(parameters, (name) => weights.get(name));
  const gradients = new Gradients(parameters, gradientType);
  disposables.push(model, gradients);
  return { model, gradients };
}

describeShared('training equals the reference traces', ['goldens/train'], () => {
  const traces: Record<string, Trace> = existsSync(goldens)
    ? JSON.parse(readFileSync(join(goldens, 'traces.json'), 'utf8'))
    : {};
  // The last variant is how transformers 4.28 treated an incomplete group; the loop does what it does today.
  const variants = Object.keys(traces).filter((name) => !name.endsWith('legacy428'));
  const rows: { input_ids: number[]; labels: number[] }[] = existsSync(goldens)
    ? JSON.parse(readFileSync(join(goldens, 'rows.json'), 'utf8'))
    : [];

  const batchOf = (numbers: number[]): TrainingBatch =>
    endToEnd(
      numbers.map((n) => ({ ids: rows[n].input_ids, labels: rows[n].labels })),
      numbers,
    );

  function* stepsOf({ spec }: Trace): Generator<TrainingStep> {
    let step = 0;
    for (let epoch = 0; epoch < spec.epochs; epoch++)
      for (let at = 0; at < spec.micro_batches.length; at += spec.accumulation) {
        const group = spec.micro_batches.slice(at, at + spec.accumulation);
        const endsEpoch = at + spec.accumulation >= spec.micro_batches.length;
        yield { step: step++, epochsDone: epoch, endsEpoch, batches: group.map(batchOf) };
      }
  }

  describe.each([
    ['fp32', 'float32'],
    ['bf16', 'float32'],
    ['bf16', 'bfloat16'],
  ] as const)('%s, gradients and moments in %s', (precision, type) => {
    it.each(variants)('%s', async (variant) => {
      const trace = traces[variant];
      const { spec } = trace;
      const { model, gradients } = start(
        join(goldens, 'config.json'),
        join(goldens, 'init.safetensors'),
        precision,
        type,
      );
      const { layout } = model.parameters;
      const optimizer = new AdamW(model.parameters, {
        beta1: spec.betas[0],
        beta2: spec.betas[1],
        epsilon: spec.eps,
        weightDecay: spec.weight_decay,
        stateType: type,
      });
      disposables.push(optimizer);
      const lines: TrainLine[] = [];
      const options: TrainingOptions = {
        schedule: {
          type: 'cosine',
          learningRate: spec.lr,
          warmupSteps: spec.warmup_steps,
          totalSteps: spec.total_steps,
        },
        maxGradNorm: spec.max_grad_norm,
        lossNormalization: spec.normalise,
        loggingSteps: 1,
        evaluateEvery: 'no',
        saveEvery: 'no',
      };
      const log = (line: object) => lines.push(line as TrainLine);
      const end = await train({
        objective: nextToken(model, { gradientCheckpointing: false }),
        gradients,
        optimizer,
        steps: stepsOf(trace),
        options,
        hooks: { ...silentHooks, log },
      });
      expect(end).toMatchObject({ outcome: 'finished', step: spec.total_steps });

      const tolerance = type === 'bfloat16' ? NARROW : TOLERANCE[precision];
      expect(lines.length).toBe(trace.steps.length);
      trace.steps.forEach((expected, i) => {
        const line = lines[i];
        expect(Math.abs(line.loss - expected.loss), `loss of step ${i + 1}`).toBeLessThanOrEqual(
          tolerance.loss,
        );
        expect(
          Math.abs(line.grad_norm / expected.grad_norm - 1),
          `grad_norm of step ${i + 1}`,
        ).toBeLessThanOrEqual(tolerance.gradNorm);
        expect(Math.abs(line.learning_rate - expected.lr)).toBeLessThanOrEqual(1e-9 * expected.lr);
        expect(line.label_tokens).toBe(expected.micro_tokens.reduce((a, b) => a + b, 0));
      });

      const final = readSafetensors(join(goldens, `final.${variant}.safetensors`));
      let squares = 0;
      let most = 0;
      for (const { name } of layout.entries) {
        const tensor = model.parameters.tensor(name);
        const values = tensor.floats();
        tensor.dispose();
        const expected = final.get(name)!.data;
        for (let i = 0; i < expected.length; i++) {
          squares += (values[i] - expected[i]) ** 2;
          most = Math.max(most, Math.abs(values[i] - expected[i]));
        }
      }
      expect(Math.sqrt(squares / layout.parameters)).toBeLessThanOrEqual(tolerance.rms);
      expect(most).toBeLessThanOrEqual(tolerance.max);
    });
  });
});

it('a signal that comes during a micro-batch is heard when it ends', async () => {
  const config = parseLlamaConfig(TINY, 'tiny model');
  const model = new LlamaForCausalLM(new Parameters(config, defaultDevice(), 'fp32'));
  model.parameters.initialize(1);
  const gradients = new Gradients(model.parameters);
  const optimizer = new AdamW(model.parameters, { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0 });
  disposables.push(model, gradients, optimizer);
  const objective = nextToken(model, { gradientCheckpointing: false });
  let isHeard = false;
  process.once('SIGUSR2', () => {
    isHeard = true;
  });
  const signalled: typeof objective = {
    ...objective,
    forwardBackward(...args) {
      if (!isHeard) process.kill(process.pid, 'SIGUSR2');
      objective.forwardBackward(...args);
    },
  };
  const batch = endToEnd([{ ids: [1, 2, 3], labels: [1, 2, 3] }], [0]);
  const steps = [0, 1, 2].map((step) => ({ step, epochsDone: 0, endsEpoch: false, batches: [batch] }));
  // As in a run that has just read a file: the event loop has looked for signals in this round.
  await readFile(import.meta.filename);
  const end = await train({
    objective: signalled,
    gradients,
    optimizer,
    steps,
    options: {
      schedule: { type: 'constant', learningRate: 1e-3, warmupSteps: 0, totalSteps: 3 },
      maxGradNorm: 1,
      lossNormalization: 'token_mean',
      loggingSteps: 1,
      evaluateEvery: 'no',
      saveEvery: 'no',
    },
    hooks: { ...silentHooks, stopRequested: () => (isHeard ? 'now' : undefined) },
  });
  expect(end).toMatchObject({ outcome: 'stopped_at_once', step: 0 });
});
