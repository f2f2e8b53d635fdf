import type { ParameterGroup, ParameterSpec } from './layout.js';

export interface LoraOptions {
  /** Rank of the updates. */
  r: number;
  /** Updates count alpha / r. */
  alpha: number;
  /** Modules by the last part of their names, such as `q_proj`. */
  targetModules: readonly string[];
}

/**
 * The same model with a low-rank adapter (LoRA, arXiv 2106.09685) beside each weight of the target modules, named as
 * peft names them. What was there is frozen. B starts from 0, so the model from what it was; A from a normal
 * distribution of the variance that peft's uniform one has, 1 / (3·in).
 */
export function loraSpecs(
  groups: readonly ParameterGroup[],
  { r, alpha, targetModules }: LoraOptions,
): ParameterGroup[] {
  const frozen = groups.map((group) => group.map((spec) => ({ ...spec, trainable: false })));
  const adapters = frozen.flat().flatMap(({ name, shape }): ParameterGroup[] => {
    const [module] = name.split('.').slice(-2);
    if (!targetModules.includes(module)) return [];
    const part = (letter: 'A' | 'B', partShape: number[], normal: number): ParameterSpec => ({
      name: name.replace(/weight$/, `lora_${letter}.weight`),
      shape: partShape,
      initial: normal > 0 ? { normal } : { constant: 0 },
      decayed: true,
      trainable: true,
      adapter: { of: name, part: letter, scale: alpha / r },
    });
    const [out, inner] = shape;
    return [[part('A', [r, inner], (3 * inner) ** -0.5)], [part('B', [out, r], 0)]];
  });
  return [...frozen, ...adapters];
}
