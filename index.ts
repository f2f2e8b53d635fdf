/**
 * tstrain as a library: what its commands do (recipes/), TF.js tensors in and out (importing this registers the backend
 * `native`), and the explicit engine underneath.
 */

export * from './engine/index.js';
export { type FinetuneEnd, type FinetuneOptions, finetune } from './recipes/finetune.js';
export { type RowScore, scoreRows } from './recipes/score.js';
export type { Settings } from './recipes/settings.js';
