export { makeMicroBatch } from './batch.js';
export { defaultCacheDirectory } from './cache.js';
export { type Dataset, type DatasetOptions, loadDataset } from './dataset.js';
export type { Example } from './encode.js';
export { type DataOrder, epochOrder } from './order.js';
export {
  type EpochSchedule,
  epochSchedule,
  evaluationMicroBatches,
  packRows,
  type ScheduleOptions,
} from './pack.js';
export { type AlpacaRow, formatPrompt } from './prompt.js';
export { type DatasetReport, renderReport } from './report.js';
export {
  measureRun,
  type RunOptions,
  type RunSchedule,
  type RunTotals,
  runSchedule,
  type ScheduledStep,
} from './schedule.js';
export { type RowBatch, type RowForm, readRows, type TokenRow } from './sources.js';
