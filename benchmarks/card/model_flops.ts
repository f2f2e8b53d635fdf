import type { LlamaConfig } from '../../engine/model/config.js';
import { layoutOf } from '../../engine/model/layout.js';
import { causalLmSpecs, EMBEDDING } from '../../engine/model/specs.js';

/** FLOPs of a token that count for MFU, as LLM.Q counts: 6 for each weight of a matrix, and causal attention. */
export function modelFlops(config: LlamaConfig, length: number): number {
  const { parameters, entries } = layoutOf(causalLmSpecs(config));
  const norms = entries.filter(({ decayed }) => !decayed).reduce((sum, { size }) => sum + size, 0);
  const lookedUp = config.tieWordEmbeddings ? 0 : entries.find(({ name }) => name === EMBEDDING)!.size;
  const width = config.numAttentionHeads * config.headDim;
  return 6 * (parameters - norms - lookedUp) + 6 * config.numHiddenLayers * width * length;
}
