import { NativeTensor, release } from '../device/native_tensor.js';
import { type Block, openNorm, type Stream } from '../model/block.js';
import type { LlamaForCausalLM } from '../model/llama.js';
import { disposeAngles } from '../model/rope_tables.js';
import { cachedAttention, type Heads } from '../ops/attention.js';
import { gatherRows } from '../ops/embedding.js';
import { linear } from '../ops/linear.js';
import { addRmsnorm } from '../ops/rmsnorm.js';
import { type RopeAngles, ropeInPlace } from '../ops/rope.js';
import { swiglu } from '../ops/swiglu.js';
import { KvCache } from './kv_cache.js';

/** The new tokens of a step, as every layer sees them. */
interface Step {
  count: number;
  angles: RopeAngles;
  offsets: { queries: NativeTensor; keys: NativeTensor };
}

interface Layer {
  block: Block;
  /** The rows of `block.qkv` that make queries, and those that make a row of the cache. */
  q: NativeTensor;
  kv: NativeTensor;
  cache: KvCache;
}

/**
 * A text that a model goes on with: keys and values of its tokens are kept, so that each further token costs one
 * row of arithmetic. The forward pass is the model's, with keys and values written straight into the cache.
 *
 * `dynamic` RoPE does what transformers' `generate` does: new tokens are turned by the frequencies of the length
 * they make, and cached keys stay as they are.
 */
export class Decoder {
  private readonly layers: Layer[];
  private readonly heads: Heads;
  private length = 0;

  constructor(private readonly model: LlamaForCausalLM) {
    const { config, device } = model.parameters;
    const { hiddenSize, headDim, numAttentionHeads: heads, numKeyValueHeads: kvHeads } = config;
    this.heads = { heads, kvHeads, headDim };
    const [qRows, kvRows] = [heads * headDim, 2 * kvHeads * headDim];
    this.layers = model.trunk.blocks.map((block) => {
      const { value } = block.qkv.weight;
      return {
        block,
        q: value.view([qRows, hiddenSize]),
        kv: value.view([kvRows, hiddenSize], qRows * hiddenSize),
        cache: new KvCache(device, value.dtype, kvRows),
      };
    });
  }

  /** Appends ids [≥ 1] to the text and returns the logits of what follows the last one, float32 [vocab]. */
  append(ids: Int32Array): Float32Array {
    const { parameters, ropeTables, trunk, head } = this.model;
    const { config, device } = parameters;
    const count = ids.length;
    const step: Step = {
      count,
      angles: ropeTables.angles([count], this.length),
      offsets: {
        queries: NativeTensor.from(device, Int32Array.of(0, count)),
        keys: NativeTensor.from(device, Int32Array.of(0, this.length + count)),
      },
    };
    this.length += count;
    const idTensor = NativeTensor.from(device, ids);
    let stream: Stream = { residual: gatherRows(trunk.embedding.value, idTensor) };
    for (const layer of this.layers) stream = this.layerForward(stream, layer, step);
    disposeAngles(step.angles);
    release(idTensor, step.offsets.queries, step.offsets.keys);

    const last = {
      residual: lastRow(stream.residual),
      delta: lastRow(stream.delta!),
    };
    const { y: hidden, rstd, h } = openNorm(last, trunk.norm, config.rmsNormEps);
    const logits = head.logits(hidden);
    const values = logits.floats();
    release(stream.residual, stream.delta!, last.residual, hidden, rstd, h, logits);
    return values;
  }

  dispose(): void {
    for (const { q, kv, cache } of this.layers) {
      release(q, kv);
      cache.dispose();
    }
  }

  /** As model/block.ts, but nothing is kept for a backward pass, and q and k | v are products of their own. */
  private layerForward(stream: Stream, { block, q: wq, kv: wkv, cache }: Layer, step: Step): Stream {
    const { rmsNormEps } = this.model.parameters.config;
    const { y: n1, rstd: rstd1, h } = openNorm(stream, block.inputNorm, rmsNormEps);
    if (h !== stream.residual) stream.residual.dispose();
    const { added, all } = cache.append(step.count);
    linear(n1, wkv, added);
    const q = linear(n1, wq);
    ropeInPlace(added, step.angles, this.heads.kvHeads);
    ropeInPlace(q, step.angles, this.heads.heads);
    const attended = cachedAttention(q, all, step.offsets, this.heads);
    release(n1, rstd1, added, all, q);
    const o = block.o.forward(attended);
    const { y: n2, rstd: rstd2, sum: h1 } = addRmsnorm(o, h, block.postAttentionNorm.value, rmsNormEps);
    release(attended, o, h);
    const gateUp = block.gateUp.forward(n2);
    const activated = swiglu(gateUp);
    const delta = block.down.forward(activated);
    release(n2, rstd2, gateUp, activated);
    return { residual: h1, delta };
  }
}

function lastRow(x: NativeTensor): NativeTensor {
  const [rows, dim] = x.shape;
  return x.view([1, dim], (rows - 1) * dim);
}
