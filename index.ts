/**
 * tstrain as a library: what its commands do (recipes/), TF.js tensors in and out (importing this registers the backend
 * `native`), and the explicit engine underneath. docs/library.md shows how. The native addon is loaded by the first call
 * that needs it.
 */

export { IGNORE_INDEX, type MicroBatch, type TrainingBatch } from './batch.js';
export * from './engine/index.js';
export { UserError } from './errors.js';
export { type FinetuneEnd, type FinetuneOptions, finetune } from './recipes/finetune.js';
export { encodePrompt, eosTokenIds } from './recipes/generate.js';
export { type Plan, plan, planRows } from './recipes/plan/plan.js';
export type { MeasuredReport, MemoryReport, PlanReport } from './recipes/plan/report.js';
export { type RowScore, scoreRows } from './recipes/score.js';
export type { PlanSettings, Settings } from './recipes/settings.js';
export { loadTokenizer, type Tokenizer } from './tokenizer/index.js';
