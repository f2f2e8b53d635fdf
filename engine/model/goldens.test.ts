import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { MicroBatch } from '../../batch.js';
import { llamaFixtures, loadModel } from '../../tests/llama_fixture.js';
import { lossSum } from '../../tests/loss_sum.js';
import { readSafetensors } from '../../tests/read_safetensors.js';
import { describeShared, shared } from '../../tests/shared.js';
import { Gradients } from './parameters.js';

// Reference values: PyTorch in float64 on seeded tiny models (tests/fixtures/llama). Tolerances are those the
// fixtures state for a float32 engine, ten or more times transformers' own float32 error; for bf16, which rounds
// every activation to 8 bits, they are about three times what autocast shows.
const TOLERANCE = {
  fp32: { logits: 1e-4, loss: 1e-5, gradient: 5e-5 },
  bf16: { logits: 0.65, loss: 2e-2, gradient: 0.2 },
};

/** Right-padded rows [B, T] as documents end to end. */
function unpad(io: ReturnType<typeof readSafetensors>): MicroBatch & { positions: number[] } {
  const [rows, length] = io.get('input_ids')!.shape;
  const ids = io.get('input_ids')!.data;
  const labels = io.get('labels')!.data;
  const mask = io.get('attention_mask')!.data;
  const positions: number[] = [];
  const offsets = [0];
  const targets: number[] = [];
  for (let b = 0; b < rows; b++) {
    for (let t = 0; t < length && mask[b * length + t]; t++) {
      positions.push(b * length + t);
      const next = t + 1 < length && mask[b * length + t + 1] ? labels[b * length + t + 1] : -100;
      targets.push(next);
    }
    offsets.push(positions.length);
  }
  return {
    positions,
    ids: Int32Array.from(positions, (p) => ids[p]),
    targets: Int32Array.from(targets),
    documentOffsets: Int32Array.from(offsets),
  };
}

function maxAbs(values: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < values.length; i++) most = Math.max(most, Math.abs(values[i]));
  return most;
}

function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  let most = 0;
  // A NaN must not pass for a small difference.
  for (let i = 0; i < a.length; i++)
    most = Math.max(most, Number.isNaN(a[i]) ? Infinity : Math.abs(a[i] - b[i]));
  return most;
}

/** Every parameter's gradient against `grad.<name>`, relative to the largest reference value of the tensor. */
function expectGradients(
  gradients: Gradients,
  io: ReturnType<typeof readSafetensors>,
  tolerance: number,
): void {
  const flat = gradients.flat.floats();
  for (const { name, offset, size } of gradients.parameters.entries) {
    const reference = io.get(`grad.${name}`)!.data;
    const difference = maxDifference(flat.subarray(offset, offset + size), reference);
    expect(difference, name).toBeLessThanOrEqual(tolerance * maxAbs(reference));
  }
}

const names = [
  'mha-untied',
  'gqa-tied',
  'odd',
  'rope-llama3',
  'rope-linear',
  'rope-dynamic',
  'rope-yarn',
  'long',
];

describe.each(['fp32', 'bf16'] as const)('LLaMA in %s equals the reference', (precision) => {
  const tolerance = TOLERANCE[precision];

  it.each(names)('%s', (name) => {
    const model = loadModel(join(llamaFixtures, name), precision);
    const { config } = model.parameters;
    const io = readSafetensors(join(llamaFixtures, name, 'io.safetensors'));
    const batch = unpad(io);

    const logits = model.logits(batch);
    const vocab = config.vocabSize;
    const reference = io.get('logits')!.data;
    const values = logits.floats();
    batch.positions.forEach((position, t) => {
      const expected = reference.subarray(position * vocab, (position + 1) * vocab);
      const difference = maxDifference(values.subarray(t * vocab, (t + 1) * vocab), expected);
      expect(difference, `logits at ${t}`).toBeLessThanOrEqual(tolerance.logits);
    });
    logits.dispose();

    const labels = io.get('n_label_tokens')!.data[0];
    const gradients = new Gradients(model.parameters);
    const loss = lossSum(model.forwardBackward(batch, 1 / labels, gradients)) / labels;
    expect(Math.abs(loss - io.get('loss')!.data[0])).toBeLessThanOrEqual(tolerance.loss);
    expectGradients(gradients, io, tolerance.gradient);

    const losses = model.losses(batch);
    expect(losses.length).toBe(labels);
    expect(losses.reduce((a, b) => a + b, 0) / labels).toBeCloseTo(loss, 5);

    // Recomputed blocks run the same kernels on the same input.
    const again = new Gradients(model.parameters);
    const recomputed = model.forwardBackward(batch, 1 / labels, again, { gradientCheckpointing: true });
    expect(lossSum(recomputed) / labels).toBe(loss);
    expect(
      Buffer.compare(Buffer.from(again.flat.floats().buffer), Buffer.from(gradients.flat.floats().buffer)),
    ).toBe(0);

    if (precision === 'bf16') {
      // The same sums, each rounded as it is added: at most twice, where the head is the embedding.
      const narrow = new Gradients(model.parameters, 'bfloat16');
      model.forwardBackward(batch, 1 / labels, narrow).dispose();
      const [rounded, exact] = [narrow, gradients].map(({ flat }) => flat.floats());
      for (const { name, offset, size } of model.parameters.entries) {
        const [is, was] = [rounded, exact].map((flat) => flat.subarray(offset, offset + size));
        expect(maxDifference(is, was), name).toBeLessThanOrEqual(2 * 2 ** -8 * maxAbs(was));
      }
      narrow.dispose();
    }

    gradients.dispose();
    again.dispose();
    model.dispose();
  });

  describeShared('several documents', ['goldens/packed'], () => {
    it('in one row, and one by one', () => {
      const packed = shared('goldens/packed');
      const model = loadModel(packed, precision);
      const io = readSafetensors(join(packed, 'io.safetensors'));
      const documents = Array.from({ length: 7 }, (_, j) => {
        const ids = io.get(`doc.${j}.input_ids`)!.data as Int32Array;
        const labels = io.get(`doc.${j}.labels`)!.data as Int32Array;
        const targets = ids.map((_, t) => (t + 1 < ids.length ? labels[t + 1] : -100));
        return { ids, targets, documentOffsets: Int32Array.of(0, ids.length) };
      });
      const offsets = [0];
      for (const d of documents) offsets.push(offsets.at(-1)! + d.ids.length);
      const together: MicroBatch = {
        ids: Int32Array.from(documents.flatMap((d) => [...d.ids])),
        targets: Int32Array.from(documents.flatMap((d) => [...d.targets])),
        documentOffsets: Int32Array.from(offsets),
      };
      // The reference is a sum over 209 tokens: relative 2e-6 in float32; in bf16 the stated loss band per token.
      const expected = io.get('loss_sum')!.data[0];
      const band =
        precision === 'fp32' ? 2e-6 * expected : tolerance.loss * io.get('n_label_tokens')!.data[0];

      for (const batches of [documents, [together]]) {
        const gradients = new Gradients(model.parameters);
        const sum = batches.reduce(
          (total, batch) => total + lossSum(model.forwardBackward(batch, 1, gradients)),
          0,
        );
        expect(Math.abs(sum - expected)).toBeLessThanOrEqual(band);
        expectGradients(gradients, io, tolerance.gradient);
        gradients.dispose();
      }

      const logits = model.logits(together).floats();
      documents.forEach((d, j) => {
        const vocab = model.parameters.config.vocabSize;
        const mine = logits.subarray(offsets[j] * vocab, offsets[j + 1] * vocab);
        expect(maxDifference(mine, io.get(`doc.${j}.logits`)!.data), `document ${j}`).toBeLessThanOrEqual(
          tolerance.logits,
        );
        // Attention sees each document for itself, in the same order of sums: packing changes nothing but how many
        // rows a GEMM has.
        const alone = model.logits(d);
        expect(maxDifference(alone.floats(), mine), `document ${j} alone`).toBeLessThanOrEqual(
          precision === 'fp32' ? 2e-5 : tolerance.logits,
        );
        alone.dispose();
      });
      model.dispose();
    });
  });
});
