import type { TrainingHooks } from '../engine/train/loop.js';

/** Hooks of a run that nobody watches or stops: it evaluates nothing and saves nothing. */
export const silentHooks: TrainingHooks = {
  log: () => {},
  evaluate: async () => undefined,
  save: async () => true,
  progress: () => {},
  stopRequested: () => undefined,
};
