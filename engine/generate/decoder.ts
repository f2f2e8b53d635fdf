import { UserError } from '../../errors.js';
import { isMeta } from '../device/addon.js';
import { NativeTensor, release } from '../device/native_tensor.js';
import { headsOf } from '../model/block.js';
import type { LlamaForCausalLM } from '../model/llama.js';
import { cachedAttention, type Documents, documentsFrom, documentTensors, spans } from '../ops/attention.js';
import { scatterRows } from '../ops/embedding.js';
import type { RopeAngles } from '../ops/rope.js';
import { KvCache, type Region } from './kv_cache.js';

/** What comes next in a text of a decoder. */
export interface Continuation {
  /** As {@link Decoder.add} has named it. */
  text: number;
  /** At least one. */
  ids: Int32Array;
}

/** The new tokens of all texts, end to end, as every layer sees them. */
interface Step {
  ids: NativeTensor;
  angles: RopeAngles;
  documents: Documents;
  /** int32 [tokens]: where their keys and values go in the cache. */
  rows: NativeTensor;
  /** int32 [texts]: the last token of each text. */
  last: NativeTensor;
}

/**
 * Texts that a model goes on with. Keys and values of their tokens are kept, so that each further token costs one row
 * of arithmetic, and the texts of a step share its passes over the weights. They need not be of one length, nor go on
 * all at once: a step takes whole prompts beside single tokens.
 *
 * `dynamic` RoPE does what transformers' `generate` does, for each text by itself: new tokens are turned by the
 * frequencies of the length they make, and cached keys stay as they are.
 */
export class Decoder {
  private readonly cache: KvCache;

  constructor(private readonly model: LlamaForCausalLM) {
    const { config, device, flat } = model.parameters;
    const { headDim, numKeyValueHeads: kvHeads, numHiddenLayers } = config;
    this.cache = new KvCache(device, flat.dtype, numHiddenLayers, 2 * kvHeads * headDim);
  }

  /** A new, empty text; its number is never given again. */
  add(): number {
    return this.cache.add();
  }

  /**
   * Appends ids to texts, each given once, and returns for each of them the logits of what follows its last id,
   * float32 [vocab]; zeros on a device that only counts. When anything throws, the decoder is as it was before.
   * @throws UserError when ids are missing or outside the vocabulary
   * @throws Error when a text is not there or given twice
   */
  append(continuations: readonly Continuation[]): Float32Array[] {
    const { parameters, trunk, head } = this.model;
    const { vocabSize } = parameters.config;
    const counts = new Map<number, number>();
    for (const { text, ids } of continuations) {
      this.cache.length(text);
      if (counts.has(text)) throw new Error(`text ${text} is given twice`);
      checkIds(ids, vocabSize, `text ${text}`);
      counts.set(text, ids.length);
    }
    if (continuations.length === 0) return [];
    const heads = headsOf(parameters.config);
    return this.cache.extend(counts, (layers, regions) => {
      const step = this.step(continuations, regions);
      const { ids, angles, documents, rows, last } = step;
      const logits = head.emptyLogits(regions.length);
      const attention = (cache: NativeTensor) => (qkv: NativeTensor) => {
        scatterRows(cache, qkv, rows, heads.heads * heads.headDim);
        return { out: cachedAttention(qkv, cache, documents, heads) };
      };
      this.model.repeat.do('decode', [...tensorsOf(step), logits, ...layers], () => {
        const hidden = trunk.statesAt(last, ids, (i) => ({ angles, attention: attention(layers[i]) }));
        head.logits(hidden, logits);
        hidden.dispose();
      });
      release(...tensorsOf(step));
      const values = isMeta(logits.device) ? new Float32Array(logits.size) : logits.floats();
      logits.dispose();
      return regions.map((_, j) => values.subarray(j * vocabSize, (j + 1) * vocabSize));
    });
  }

  /** The text ends, and others take its place in memory. @throws Error when there is no such text */
  remove(text: number): void {
    this.cache.remove(text);
  }

  dispose(): void {
    this.cache.dispose();
  }

  private step(continuations: readonly Continuation[], regions: readonly Region[]): Step {
    const { device } = this.model.parameters;
    const counts = continuations.map(({ ids }) => ids.length);
    const from = regions.map(({ length }, j) => length - counts[j]);
    const host = spans(regions.map((keys, j) => ({ tokens: counts[j], keys })));
    const { cos, sin, index } = this.model.ropeTables.rowsOf(counts, from);
    const [offsets] = host.arrays;
    const [ids, angles, rows, last, ...documents] = NativeTensor.stage(device, [
      Int32Array.from(continuations.flatMap((c) => Array.from(c.ids))),
      index,
      Int32Array.from(
        regions.flatMap(({ start }, j) => Array.from({ length: counts[j] }, (_, t) => start + from[j] + t)),
      ),
      offsets.slice(1).map((end) => end - 1),
      ...host.arrays,
    ]);
    return {
      ids,
      angles: { cos, sin, index: angles },
      documents: documentsFrom(host, documents),
      rows,
      last,
    };
  }
}

function tensorsOf({ ids, angles, documents, rows, last }: Step): NativeTensor[] {
  return [ids, rows, last, ...Object.values(angles), ...documentTensors(documents)];
}

/** @throws UserError when there are no ids, or some are outside the vocabulary; `what` names them */
export function checkIds(ids: ArrayLike<number>, vocabSize: number, what: string): void {
  if (ids.length === 0) throw new UserError(`${what} is empty: a model needs at least one id to go on from`);
  const position = Array.prototype.findIndex.call(
    ids,
    (id) => !Number.isInteger(id) || id < 0 || id >= vocabSize,
  );
  if (position >= 0)
    throw new UserError(
      `${what}'s id ${ids[position]} (number ${position + 1} of ${ids.length}) is outside the model's ` +
        `vocabulary of ${vocabSize} (ids 0 to ${vocabSize - 1})`,
    );
}
