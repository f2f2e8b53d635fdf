import { bytesText } from '../../engine/machine/memory.js';
import type { PlanConfig, RunConfig } from '../settings.js';

/** Other values of some settings. */
export type Changes = Partial<RunConfig>;

/** Settings with which a run takes less, and what it then takes in all, in bytes. */
export interface Saving {
  settings: Changes;
  total: number;
}

/** What a run takes in all with some settings changed. */
export type TotalOf = (changes: Changes) => Promise<number>;

/** Shorter rows than these say little of what is learned. */
const SHORTEST = 128;

/**
 * What brings a run into `room` bytes: of each kind of change the mildest that does so by itself, or the strongest where
 * none does. If no kind suffices, the last one is as many together as it takes, or all.
 */
export async function savings(config: PlanConfig, room: number, totalOf: TotalOf): Promise<Saving[]> {
  const now = await totalOf({});
  const alone: Saving[] = [];
  for (const kind of kindsOf(config)) {
    let saving: Saving | undefined;
    for (const settings of kind) {
      saving = { settings, total: await totalOf(settings) };
      if (saving.total <= room) break;
    }
    if (saving && saving.total < now) alone.push(saving);
  }
  if (alone.length < 2 || alone.some(({ total }) => total <= room)) return alone;
  let together = alone[0];
  for (const { settings } of alone.slice(1)) {
    const both = { ...together.settings, ...settings };
    together = { settings: both, total: await totalOf(both) };
    if (together.total <= room) break;
  }
  return [...alone, together];
}

/**
 * Of each kind from mild to strong; what leaves the result as it is first, then what costs time, then what rounds more, then
 * what costs text.
 */
function kindsOf(config: PlanConfig): Changes[][] {
  const { per_device_train_batch_size: rows, gradient_accumulation_steps: passes } = config;
  return [
    halves(rows, 1).map((n) => ({
      per_device_train_batch_size: n,
      gradient_accumulation_steps: Math.ceil((rows * passes) / n),
    })),
    config.gradient_checkpointing ? [] : [{ gradient_checkpointing: true }],
    config.optimizer_offload !== 'none' ? [] : [{ optimizer_offload: 'cpu' }],
    narrower(config),
    halves(config.model_max_length, SHORTEST).map((n) => ({ model_max_length: n })),
  ];
}

/** First the moments, then gradients too, which must not be narrower than the weights. */
function narrower({ bf16, gradient_dtype, optimizer_state_dtype }: PlanConfig): Changes[] {
  const moments: Changes = optimizer_state_dtype === 'bfloat16' ? {} : { optimizer_state_dtype: 'bfloat16' };
  const weights: Changes = bf16 ? {} : { bf16: true };
  const both: Changes =
    gradient_dtype === 'float32' ? { ...moments, gradient_dtype: 'bfloat16', ...weights } : moments;
  return [moments, both].filter((changes) => Object.keys(changes).length > 0);
}

/** n/2, n/4 … down to `least`. */
function halves(n: number, least: number): number[] {
  const half = n >> 1;
  return half < least ? [] : [half, ...halves(half, least)];
}

/** `gradient_checkpointing: true`, for people. */
export function settingsText(settings: Changes): string {
  return Object.entries(settings)
    .map(([key, value]) => `${key}: ${value}`)
    .join(', ');
}

/** The same of all that was found, with what a run then takes. */
export function savingsText(found: readonly Saving[]): string {
  if (found.length === 0) return 'no setting takes less; a smaller model does';
  const each = found.map(({ settings, total }) => `${settingsText(settings)} (${bytesText(total)})`);
  return `less is taken, in all, with ${each.join('; or ')}`;
}
