import { philox } from './philox.js';

export type DataOrder = 'shuffled' | 'sequential';

/**
 * The order in which epoch `epoch` (from 0) visits n examples: a permutation of 0..n−1, a function of seed and
 * epoch alone. Fisher–Yates with Philox4x32-10: key = seed (64 bits), counter = (swap, epoch, 0, 0), 53 random bits
 * a swap, which leaves a bias below n · 2⁻⁵³.
 *
 * `seed` and `epoch` are integers ≥ 0.
 */
export function epochOrder(
  n: number,
  { seed, epoch, dataOrder }: { seed: number; epoch: number; dataOrder: DataOrder },
): Int32Array {
  const order = Int32Array.from({ length: n }, (_, i) => i);
  if (dataOrder === 'sequential') return order;
  const key = [seed >>> 0, Math.floor(seed / 2 ** 32)] as const;
  for (let i = n - 1; i > 0; i--) {
    const [high, low] = philox([i, epoch, 0, 0], key);
    const uniform = (high * 2 ** 21 + (low >>> 11)) / 2 ** 53;
    const j = Math.floor(uniform * (i + 1));
    const swapped = order[i];
    order[i] = order[j];
    order[j] = swapped;
  }
  return order;
}
