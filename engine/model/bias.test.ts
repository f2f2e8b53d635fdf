import { describe, expect, it } from 'vitest';
import type { MicroBatch } from '../../batch.js';
import { lossSum } from '../../tests/loss_sum.js';
import { expectGradient, Random } from '../../tests/op_cases.js';
import { defaultDevice } from '../device/addon.js';
import { parseLlamaConfig } from './config.js';
import { LlamaForCausalLM } from './llama.js';
import { Gradients, Parameters } from './parameters.js';
import { blockNames } from './specs.js';

// Models whose projections have biases (attention_bias, mlp_bias), against the formulas written out in float64.

const [C, F, V, HEADS, KV, D] = [12, 20, 23, 2, 1, 6];
const EPS = 1e-6;

type Weights = (name: string) => Float64Array;

/** x [rows, in] · W [out, in]ᵀ + b. */
function project(x: number[][], weight: Float64Array, bias: Float64Array | undefined): number[][] {
  const inner = x[0].length;
  const out = weight.length / inner;
  return x.map((row) =>
    Array.from({ length: out }, (_, o) =>
      row.reduce((sum, value, i) => sum + value * weight[o * inner + i], bias?.[o] ?? 0),
    ),
  );
}

function norm(x: number[][], weight: Float64Array): number[][] {
  return x.map((row) => {
    const scale = 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / row.length + EPS);
    return row.map((v, i) => v * scale * weight[i]);
  });
}

const add = (a: number[][], b: number[][]) => a.map((row, t) => row.map((v, i) => v + b[t][i]));

/** One head of every row at its position: half-split RoPE with θ = 10000. */
function turned(row: number[], head: number, position: number): number[] {
  const x = row.slice(head * D, (head + 1) * D);
  return x.map((v, i) => {
    const angle = position * 10000 ** ((-2 * (i % (D / 2))) / D);
    const other = i < D / 2 ? -x[i + D / 2] : x[i - D / 2];
    return v * Math.cos(angle) + other * Math.sin(angle);
  });
}

/** The mean loss of one document, in float64. */
function referenceLoss(of: Weights, has: (name: string) => boolean, { ids, targets }: MicroBatch): number {
  const layer = (x: number[][], name: string) => {
    const bias = name.replace('weight', 'bias');
    return project(x, of(name), has(bias) ? of(bias) : undefined);
  };
  const embedding = of('model.embed_tokens.weight');
  let h = Array.from(ids, (id) => [...embedding.subarray(id * C, (id + 1) * C)]);
  const { inputNorm, qkv, o, postAttentionNorm, gateUp, down } = blockNames(0);
  const n1 = norm(h, of(inputNorm[0]));
  const [q, k, v] = qkv.map((name) => layer(n1, name));
  const attended = q.map((row, t) =>
    Array.from({ length: HEADS }, (_, head) => {
      const query = turned(row, head, t);
      const scores = k.slice(0, t + 1).map((keys, s) => {
        const key = turned(keys, 0, s);
        return query.reduce((sum, x, i) => sum + x * key[i], 0) / Math.sqrt(D);
      });
      const weights = scores.map((s) => Math.exp(s - Math.max(...scores)));
      const total = weights.reduce((a, b) => a + b);
      return Array.from({ length: D }, (_, i) =>
        weights.reduce((sum, w, s) => sum + (w / total) * v[s][i], 0),
      );
    }).flat(),
  );
  h = add(h, layer(attended, o[0]));
  const n2 = norm(h, of(postAttentionNorm[0]));
  const [gate, up] = gateUp.map((name) => layer(n2, name));
  const activated = gate.map((row, t) => row.map((g, i) => (g / (1 + Math.exp(-g))) * up[t][i]));
  h = add(h, layer(activated, down[0]));
  const logits = project(norm(h, of('model.norm.weight')), of('lm_head.weight'), undefined);
  const losses = [...targets].flatMap((target, t) =>
    target < 0 ? [] : [Math.log(logits[t].reduce((sum, x) => sum + Math.exp(x), 0)) - logits[t][target]],
  );
  return losses.reduce((a, b) => a + b) / losses.length;
}

describe.each([
  [true, false],
  [false, true],
  [true, true],
])('attention_bias %s, mlp_bias %s', (attentionBias, mlpBias) => {
  const config = parseLlamaConfig(
    {
      vocab_size: V,
      hidden_size: C,
      intermediate_size: F,
      num_hidden_layers: 1,
      num_attention_heads: HEADS,
      num_key_value_heads: KV,
      initializer_range: 0.3,
      attention_bias: attentionBias,
      mlp_bias: mlpBias,
    },
    'test',
  );
  const biases = [...(attentionBias ? ['q', 'k', 'v', 'o'] : []), ...(mlpBias ? ['gate', 'up', 'down'] : [])];

  it('loss and gradients of the biases equal the formulas', () => {
    const parameters = new Parameters(config, defaultDevice(), 'fp32');
    parameters.initialize(3);
    const named = parameters.entries.map(({ name }) => name).filter((name) => name.endsWith('.bias'));
    expect(named.map((name) => /(\w+)_proj\.bias$/.exec(name)![1])).toEqual(biases);
    // New ones are 0: give them values.
    const random = new Random(7);
    const values = new Map<string, Float64Array>();
    for (const { name, size } of parameters.entries) {
      const tensor = parameters.tensor(name);
      if (named.includes(name)) {
        expect([...tensor.floats()]).toEqual(new Array(size).fill(0));
        tensor.write(Float32Array.from(random.normals(size)));
      }
      values.set(name, Float64Array.from(tensor.floats()));
      tensor.dispose();
    }

    const model = new LlamaForCausalLM(parameters);
    const ids = Int32Array.from({ length: 7 }, () => random.below(V));
    const batch = {
      ids,
      targets: Int32Array.from([...ids.subarray(1), -100]),
      documentOffsets: Int32Array.of(0, 7),
    };
    const gradients = new Gradients(parameters);
    const loss = lossSum(model.forwardBackward(batch, 1 / 6, gradients)) / 6;
    const reference = (changed: ReadonlyMap<string, Float64Array> = new Map()) =>
      referenceLoss(
        (name) => changed.get(name) ?? values.get(name)!,
        (name) => values.has(name),
        batch,
      );
    // A few hundred float32 roundings of values of order 1.
    expect(Math.abs(loss - reference())).toBeLessThan(1e-5);

    const flat = gradients.flat.floats();
    for (const { name, offset, size } of parameters.entries)
      if (named.includes(name))
        expectGradient(
          (b) => reference(new Map([[name, b]])),
          values.get(name)!,
          Float64Array.from(flat.subarray(offset, offset + size)),
          2e-5,
          name,
        );
    gradients.dispose();
    model.dispose();
  });
});
