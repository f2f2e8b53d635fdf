import type { DeviceName } from '../device/addon.js';

/** A size of card, by the gigabytes it is sold with. */
export interface Card {
  gigabytes: number;
  /** Bytes that a run can have there. */
  room: number;
}

/**
 * What is left of a card for all but a plan: the driver's context (0.3 to 0.6 GiB are reported), machine code of kernels
 * and of cuBLASLt, pinned pages, and what is lost where memory comes in pages of 2 MiB. Assumed, not measured so far.
 */
export const HELD_BACK = 2 ** 30;

/**
 * [GB, GiB]: what a card of that size says it has, the least that messages of PyTorch on such cards show. RTX 4090; A100;
 * L40S, whose error correction takes a part; A100 and H100; RTX PRO 6000; H200.
 */
const TOTALS = [
  [24, 23.5],
  [40, 39.3],
  [48, 44.3],
  [80, 79.1],
  [96, 94.9],
  [141, 139.7],
] as const;

/** The sizes of card that a plan for `device` is held against; none where a device is no card. */
export function cardsFor(device: DeviceName): Card[] {
  if (device !== 'cuda') return [];
  return TOTALS.map(([gigabytes, gib]) => ({ gigabytes, room: Math.floor(gib * 2 ** 30) - HELD_BACK }));
}
