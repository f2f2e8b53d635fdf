import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { loadConfig } from '../bin/config.js';
import { makeMicroBatch } from '../data/batch.js';
import { packRows } from '../data/index.js';
import { saveHfWeights } from '../engine/checkpoint/hf_model.js';
import { loadModel } from '../engine/checkpoint/load_model.js';
import { addon, defaultDevice } from '../engine/device/addon.js';
import { parseLlamaConfig } from '../engine/model/config.js';
import { LlamaForCausalLM } from '../engine/model/llama.js';
import { Gradients, Parameters, type Precision } from '../engine/model/parameters.js';
import { runTraining } from '../recipes/finetune.js';
import { lossSum } from './loss_sum.js';
import { RunDirectory, randomRows, TINY } from './tiny_run.js';

// Runs that must be the same in other words: to the bit where the sums are the same, else to the rounding of sums
// in another order.

let directory: RunDirectory;
beforeAll(() => addon.setThreads(1));
beforeEach(() => {
  directory = new RunDirectory();
  vi.stubEnv('XDG_CACHE_HOME', directory.at('.cache'));
});
afterEach(() => {
  directory.remove();
  vi.unstubAllEnvs();
});

/** Trains in this process; what is left is in the directory `output`. */
async function run(output: string, settings: Record<string, unknown>): Promise<void> {
  directory.writeConfig(
    { ...settings, data_path: directory.at('rows.jsonl'), output_dir: directory.at(output) },
    'run.yaml',
  );
  const { outcome } = await runTraining(loadConfig(directory.at('run.yaml')), {});
  expect(outcome).toBe('finished');
}

/** Largest |a − b| over the largest |b|. */
function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let most = 0;
  let scale = 0;
  for (let i = 0; i < b.length; i++) {
    most = Math.max(most, Math.abs(a[i] - b[i]));
    scale = Math.max(scale, Math.abs(b[i]));
  }
  return most / scale;
}

describe.each<Precision>(['fp32', 'bf16'])('%s', (precision) => {
  const rows = randomRows(60, 11).map(({ ids, prompt_len }, row) => ({
    ids: Int32Array.from(ids),
    labels: Int32Array.from(ids, (id, i) => (i < prompt_len ? -100 : id)),
    row,
    truncated: 0,
  }));
  const dataset = { example: (i: number) => rows[i] };

  function trained(): { model: LlamaForCausalLM; gradients: Gradients } {
    const config = parseLlamaConfig({ ...TINY, initializer_range: 0.3 }, 'tiny');
    const model = new LlamaForCausalLM(new Parameters(config, defaultDevice(), precision));
    model.parameters.initialize(5);
    return { model, gradients: new Gradients(model.parameters) };
  }

  // Relative. In float32 the same terms are added in another order, which differs with the instruction set: measured
  // 2e-8 of the loss, 3e-8 of the norm, and of the largest gradient 5e-7 with AVX2, 3e-6 with SSE and AVX-512. In
  // bfloat16 another order within a matrix product may round an activation to its other neighbour, 2⁻⁸ away.
  const tolerance = {
    fp32: { loss: 1e-7, norm: 2e-7, gradient: 1e-5 },
    bf16: { loss: 1e-4, norm: 1e-3, gradient: 1e-2 },
  }[precision];
  const off = (a: number, b: number) => Math.abs(a / b - 1);

  it('packed rows = documents one by one: loss and gradients', () => {
    const { model, gradients } = trained();
    const pass = (groups: number[][]) => {
      gradients.zero();
      const loss = groups.reduce(
        (sum, group) =>
          sum + lossSum(model.forwardBackward(makeMicroBatch(dataset, group), 1 / 100, gradients)),
        0,
      );
      return { loss, gradient: gradients.flat.floats() };
    };
    const order = Int32Array.from(rows.keys());
    const packed = packRows(
      Int32Array.from(rows, ({ ids }) => ids.length),
      order,
      64,
    );
    expect(packed.length).toBeLessThan(rows.length / 3);
    const one = pass([...rows.keys()].map((i) => [i]));
    const together = pass(packed);
    expect(off(together.loss, one.loss)).toBeLessThan(tolerance.loss);
    expect(difference(together.gradient, one.gradient)).toBeLessThan(tolerance.gradient);
    gradients.dispose();
    model.dispose();
  });

  it('packing: true = false over an epoch that is one step', async () => {
    directory.writeRows('rows.jsonl', randomRows(60, 11));
    const settings = { num_train_epochs: 1, gradient_accumulation_steps: 60, bf16: precision === 'bf16' };
    await run('packed', { ...settings, packing: true, per_device_train_batch_size: 2 });
    await run('plain', { ...settings, packing: false, per_device_train_batch_size: 4 });
    const [[packed], [plain]] = [directory.metrics('packed'), directory.metrics('plain')];
    expect(packed.label_tokens).toBe(plain.label_tokens);
    expect(off(packed.loss, plain.loss)).toBeLessThan(tolerance.loss);
    expect(off(packed.grad_norm, plain.grad_norm)).toBeLessThan(tolerance.norm);
  });

  it('gradient_checkpointing on = off, bit for bit over a whole run', async () => {
    directory.writeRows('rows.jsonl', randomRows(40, 12));
    const settings = { num_train_epochs: 3, gradient_accumulation_steps: 2, bf16: precision === 'bf16' };
    await run('on', { ...settings, gradient_checkpointing: true });
    await run('off', { ...settings, gradient_checkpointing: false });
    expect(directory.bytes('on/model.safetensors').equals(directory.bytes('off/model.safetensors'))).toBe(
      true,
    );
    expect(directory.untimedMetrics('on')).toBe(directory.untimedMetrics('off'));
  });

  it('4 micro-batches of 1 = 1 micro-batch of 4', async () => {
    directory.writeRows('rows.jsonl', randomRows(40, 13));
    const settings = { num_train_epochs: 1, learning_rate: 1e-3, bf16: precision === 'bf16' };
    await run('accumulated', { ...settings, per_device_train_batch_size: 1, gradient_accumulation_steps: 4 });
    await run('at_once', { ...settings, per_device_train_batch_size: 4, gradient_accumulation_steps: 1 });
    const [accumulated, atOnce] = [directory.metrics('accumulated'), directory.metrics('at_once')];
    expect(accumulated.length).toBe(10);
    for (const [i, line] of accumulated.entries()) {
      expect(line.label_tokens).toBe(atOnce[i].label_tokens);
      expect(off(line.loss, atOnce[i].loss)).toBeLessThan(tolerance.loss);
      expect(off(line.grad_norm, atOnce[i].grad_norm)).toBeLessThan(tolerance.norm);
    }
  });

  it('a loaded model = the saved one, bit for bit', async () => {
    const { model, gradients } = trained();
    const { parameters } = model;
    const before = makeMicroBatch(dataset, [0, 1, 2]);
    const logits = (m: LlamaForCausalLM) => {
      const tensor = m.logits(before);
      const values = tensor.floats();
      tensor.dispose();
      return Buffer.from(values.buffer);
    };
    await saveHfWeights(directory.path, parameters.config, parameters);
    const { model: loaded, unused } = await loadModel(directory.path, { precision });
    expect(unused).toEqual([]);
    expect(logits(loaded).equals(logits(model))).toBe(true);
    // Not because all models say the same.
    parameters.initialize(6);
    expect(logits(loaded).equals(logits(model))).toBe(false);
    for (const d of [loaded, model, gradients]) d.dispose();
  });
});
