import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { endToEnd } from '../../tests/documents.js';
import { lossSum } from '../../tests/loss_sum.js';
import { fill, readSafetensors } from '../../tests/read_safetensors.js';
import { describeShared, shared } from '../../tests/shared.js';
import { silentHooks } from '../../tests/silent_hooks.js';
import { defaultDevice } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';
import { AdamW } from '../optim/adamw.js';
import { train } from '../train/loop.js';
import type { TrainLine } from '../train/metrics.js';
import { nextToken } from '../train/objective.js';
import { readLlamaConfig } from './config.js';
import { LinearLayer } from './linear_layer.js';
import { LlamaForCausalLM } from './llama.js';
import { loraSpecs } from './lora.js';
import { Gradients, Parameters, type Weight } from './parameters.js';
import { causalLmSpecs } from './specs.js';

// Adapters on a frozen base, against peft's formula in float64 (../shared/goldens/lora). Tolerances are those stated
// there for a float32 engine.
const goldens = shared('goldens/lora');

type Tensors = ReturnType<typeof readSafetensors>;

/** The base with the adapter as peft saved it. */
function openModel(adapter: string): LlamaForCausalLM {
  const { r, lora_alpha, target_modules } = JSON.parse(
    readFileSync(join(goldens, adapter, 'adapter_config.json'), 'utf8'),
  );
  const config = readLlamaConfig(join(goldens, 'base'));
  const specs = loraSpecs(causalLmSpecs(config), { r, alpha: lora_alpha, targetModules: target_modules });
  const parameters = new Parameters(config, defaultDevice(), 'fp32', { specs });
  const base = readSafetensors(join(goldens, 'base', 'model.safetensors'));
  const saved = readSafetensors(join(goldens, adapter, 'adapter_model.safetensors'));
  fill(parameters, (name) => base.get(name) ?? saved.get(`base_model.model.${name}`));
  return new LlamaForCausalLM(parameters);
}

/** The rows of a right-padded batch. */
function unpadded(io: Tensors): { ids: number[]; labels: number[] }[] {
  const [count, length] = io.get('input_ids')!.shape;
  const [ids, labels, mask] = ['input_ids', 'labels', 'attention_mask'].map((key) => io.get(key)!.data);
  return Array.from({ length: count }, (_, row) => {
    const at = Array.from({ length }, (_, t) => row * length + t).filter((i) => mask[i]);
    return { ids: at.map((i) => ids[i]), labels: at.map((i) => labels[i]) };
  });
}

function largest(values: Iterable<number>): number {
  let most = 0;
  for (const value of values)
    most = Number.isNaN(value) ? Number.POSITIVE_INFINITY : Math.max(most, Math.abs(value));
  return most;
}

it('in bfloat16, what an adapter brings is not lost in a large addend', () => {
  const constant = (shape: readonly number[], value: number) => {
    const t = NativeTensor.onHeap(defaultDevice(), 'bfloat16', shape);
    t.write(new Float32Array(t.size).fill(value));
    return t;
  };
  const weight = (shape: readonly number[], value: number): Weight => ({
    value: constant(shape, value),
    trainable: false,
    offset: 0,
  });
  const [a, b] = [weight([1, 8], 1 / 8), weight([2, 1], 0.4)];
  const layer = new LinearLayer(weight([2, 8], 0.4 / 8), undefined, [{ a, b, scale: 1, offset: 0 }]);
  const [x, addend] = [constant([3, 8], 1), constant([3, 2], 128)];
  // Units of 1 from 128 on: 0.4 alone is nothing there, 0.8 is one.
  expect([...layer.forward(x, { addend }).floats()]).toEqual(Array(6).fill(129));
});

describeShared('adapters on a frozen base equal the reference', ['goldens/lora'], () => {
  it.each(['qv', 'all-linear'])('%s: logits, loss and gradients', (adapter) => {
    const model = openModel(adapter);
    const { parameters } = model;
    const io = readSafetensors(join(goldens, adapter, 'io.safetensors'));
    const rows = unpadded(io);
    const batch = endToEnd(rows, [0, 1, 2]);

    const logits = model.logits(batch);
    const values = logits.floats();
    logits.dispose();
    const vocab = parameters.config.vocabSize;
    const expected = io.get('logits')!;
    rows.forEach(({ ids }, row) => {
      const reference = expected.data
        .subarray(row * expected.shape[1] * vocab)
        .subarray(0, ids.length * vocab);
      const mine = values.subarray(batch.documentOffsets[row] * vocab);
      expect(largest(reference.map((x, i) => x - mine[i])), `row ${row}`).toBeLessThanOrEqual(1e-4);
    });

    const gradients = new Gradients(parameters);
    // Nothing is kept for what is frozen.
    const trained = parameters.entries.filter(({ trainable }) => trainable);
    expect(trained.every(({ adapter: of }) => of)).toBe(true);
    expect(gradients.flat.size).toBe(parameters.layout.trainableSize);
    const loss = lossSum(model.forwardBackward(batch, 1 / batch.labelTokens, gradients)) / batch.labelTokens;
    expect(Math.abs(loss - io.get('loss')!.data[0])).toBeLessThanOrEqual(1e-5);
    const flat = gradients.flat.floats();
    for (const { name, offset } of trained) {
      const reference = io.get(`grad.${name}`)!.data;
      const off = largest(reference.map((x, i) => x - flat[offset + i]));
      expect(off, name).toBeLessThanOrEqual(5e-5 * largest(reference));
    }
    gradients.dispose();
    model.dispose();
  });

  it.each(['qv', 'all-linear'])('%s: a run', async (adapter) => {
    const model = openModel(adapter);
    const { parameters } = model;
    const before = frozenBytes(model);
    const { steps: expected }: { steps: { loss: number }[] } = JSON.parse(
      readFileSync(join(goldens, adapter, 'trace.json'), 'utf8'),
    );
    const rows: { input_ids: number[]; labels: number[] }[] = JSON.parse(
      readFileSync(join(goldens, 'rows.json'), 'utf8'),
    );
    const optimizer = new AdamW(parameters, { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 });
    const gradients = new Gradients(parameters);
    const lines: TrainLine[] = [];
    await train({
      objective: nextToken(model, { gradientCheckpointing: false }),
      gradients,
      optimizer,
      steps: expected.map((_, step) => {
        const numbers = [2 * step, 2 * step + 1];
        const batch = endToEnd(
          numbers.map((n) => ({ ids: rows[n].input_ids, labels: rows[n].labels })),
          numbers,
        );
        return { step, epochsDone: 0, endsEpoch: false, batches: [batch] };
      }),
      options: {
        schedule: { type: 'constant', learningRate: 1e-3, warmupSteps: 0, totalSteps: expected.length },
        maxGradNorm: 0,
        lossNormalization: 'token_mean',
        loggingSteps: 1,
        evaluateEvery: 'no',
        saveEvery: 'no',
      },
      hooks: { ...silentHooks, log: (line) => lines.push(line as TrainLine) },
    });
    expected.forEach(({ loss }, i) => {
      expect(Math.abs(lines[i].loss - loss), `loss of step ${i + 1}`).toBeLessThanOrEqual(2e-5);
    });
    const final = readSafetensors(join(goldens, adapter, 'trace_final.safetensors'));
    const master = parameters.master.floats();
    for (const { name, offset, trainable } of parameters.entries) {
      if (!trainable) continue;
      const reference = final.get(`base_model.model.${name}`)!.data;
      expect(largest(reference.map((x, i) => x - master[offset + i])), name).toBeLessThanOrEqual(5e-5);
    }
    expect(frozenBytes(model).equals(before)).toBe(true);
    optimizer.dispose();
    gradients.dispose();
    model.dispose();
  });
});

function frozenBytes({ parameters: { flat, layout } }: LlamaForCausalLM): Buffer {
  const frozen = flat.view([layout.size - layout.trainableSize], layout.trainableSize);
  const values = frozen.floats();
  frozen.dispose();
  return Buffer.from(values.buffer);
}
