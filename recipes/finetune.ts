import { join } from 'node:path';
import type { TrainingBatch } from '../batch.js';
import { makeMicroBatch } from '../data/index.js';
import {
  checkFreeDisk,
  freeDisk,
  holdsModel,
  listCheckpoints,
  ownCheckpoints,
  pruneCheckpoints,
  removeCheckpoints,
  writeCheckpoint,
  writeFinalModel,
} from '../engine/checkpoint/directory.js';
import { checkHfWeights, saveHfWeights } from '../engine/checkpoint/hf_model.js';
import { lockOutputDirectory } from '../engine/checkpoint/lock.js';
import { replaceSynced } from '../engine/checkpoint/synced_file.js';
import { addon } from '../engine/device/addon.js';
import { isOutOfMemory } from '../engine/device/memory.js';
import { defaultThreads } from '../engine/machine/threads.js';
import { toHfConfig } from '../engine/model/config.js';
import { sumSquares } from '../engine/ops/reduce.js';
import { type RunState, readRunState, type TrainerState, writeRunState } from '../engine/train/checkpoint.js';
import { evaluate, type TrainingEnd, type TrainingStep, train } from '../engine/train/loop.js';
import {
  appendMetrics,
  dropMetricsAfter,
  type EvalLine,
  type LineSums,
  syncMetrics,
  type TrainLine,
} from '../engine/train/metrics.js';
import { nextToken, type Objective } from '../engine/train/objective.js';
import { fileError, UserError } from '../errors.js';
import { exists } from '../files.js';
import { allocate } from './allocate.js';
import { checkSettings } from './check_settings.js';
import { writeCompanions } from './companions.js';
import { setInitialWeights } from './initial_weights.js';
import { checkMemory, checkModelMemory, diskUse } from './plan/needs.js';
import { outOfMemory } from './plan/out_of_memory.js';
import { modelOf, type PreparedRun, prepareRun } from './prepare.js';
import { checkResume, findResumePoint } from './resume.js';
import { type RunConfig, renderConfig, type Settings } from './settings.js';
import { version } from './version.js';
import { count, gib, plural } from './words.js';

/** The settings of a run with all defaults, saved beside what it makes; a name that nobody gives a config of theirs. */
const RESOLVED_CONFIG = 'resolved_config.yaml';

export interface FinetuneOptions {
  /** Go on from the newest whole checkpoint of `output_dir`; otherwise checkpoints that are there are refused. */
  resume?: boolean;
  /** Take the place of checkpoints and model that are in `output_dir`; otherwise they are refused. */
  replace?: boolean;
  /** When it aborts, the run finishes its step, saves a checkpoint and ends; before the first step it ends at once. */
  signal?: AbortSignal;
  /**
   * When it aborts, the run ends at the next micro-batch, or within the file that it writes, and saves nothing more. Sooner
   * where an op throws its reason, see {@link onSignals}.
   */
  hardSignal?: AbortSignal;
  /** A line for people: what the data hold, what the run takes, warnings, what was saved. */
  onMessage?: (text: string) => void;
  /** Before the first step: until then there is no work that an end would lose. */
  onStart?: (run: { stepsDone: number; totalSteps: number }) => void;
  /** After every step; the loss is the latest that is known, which is read every `logging_steps`. */
  onProgress?: (progress: { step: number; totalSteps: number; loss: number | undefined }) => void;
  /** A line of `metrics.jsonl`, as it is written. */
  onLog?: (line: TrainLine | EvalLine) => void;
}

/** How a run has ended. */
export interface FinetuneEnd {
  /** All steps done; stopped on request after a step, with a checkpoint; or stopped at once, without one. */
  outcome: TrainingEnd['outcome'];
  /** Optimizer steps done. */
  step: number;
  /** The directory of the model: `output_dir`, or the checkpoint of a run that stopped and saved. */
  model: string | undefined;
}

/**
 * Trains as `tstrain --config` does, from the settings to the final model in `output_dir`, with checkpoints and
 * `metrics.jsonl`. Nothing is printed. While it runs it has `output_dir` for itself, and sets the number of threads.
 *
 * @param settings the keys of a run's YAML file
 * @throws UserError for a fault in the settings, naming the key, and for whatever else a user can mend; what was
 *   saved earlier is whole then
 */
export async function finetune(settings: Settings, options: FinetuneOptions = {}): Promise<FinetuneEnd> {
  return runTraining(checkSettings(settings), options);
}

/** finetune() from settings that are checked. */
export async function runTraining(config: RunConfig, options: FinetuneOptions): Promise<FinetuneEnd> {
  const { resume = false, replace = false, onMessage: say = () => {} } = options;
  const outputDir = config.output_dir;
  if (resume && !exists(outputDir))
    throw new UserError(`output_dir ${outputDir}: no such directory; there is nothing to resume`);
  // The first that needs the addon: where it does not load, nothing has been touched.
  const threadsBefore = addon.info().threads;
  const unlock = await lockOutputDirectory(outputDir);
  try {
    if (!resume && replace) await removeCheckpoints(outputDir, ownCheckpoints(outputDir));
    if (!resume && listCheckpoints(outputDir).length > 0)
      throw new UserError(
        `${outputDir}: output_dir already has checkpoints; --resume goes on from the newest, or choose another output_dir`,
      );
    if (!resume && !replace && holdsModel(outputDir))
      throw new UserError(
        `${outputDir}: output_dir already holds a model, which this run would replace; choose another output_dir, ` +
          'or delete it first',
      );
    const from = resume ? await findResumePoint(outputDir, say) : undefined;
    // Sums are cut up by thread: a continuation uses as many as the run did unless told otherwise.
    addon.setThreads(config.threads ?? from?.state.machine.threads ?? defaultThreads());
    // Before the data are read: a model that its files only claim to be, or that is too large.
    const { model_name_or_path: directory } = config;
    const model = modelOf(config);
    if (directory !== undefined && from === undefined) checkHfWeights(directory, model);
    await checkModelMemory(model, config);
    const prepared = await prepareRun(config, say, model);
    const machine = machineState();
    if (from) checkResume(from, prepared, machine, say);
    const { outcome, step } = await trainPrepared(prepared, machine, from, options).catch(async (error) => {
      throw isOutOfMemory(error) ? await outOfMemory(error, prepared) : error;
    });
    const models = { finished: outputDir, stopped_and_saved: join(outputDir, `checkpoint-${step}`) };
    return { outcome, step, model: outcome === 'stopped_at_once' ? undefined : models[outcome] };
  } catch (error) {
    const { path } = error as NodeJS.ErrnoException;
    throw path === undefined ? error : fileError(error, path, 'what was saved earlier is whole');
  } finally {
    addon.setThreads(threadsBefore);
    unlock();
  }
}

async function trainPrepared(
  prepared: PreparedRun,
  machine: TrainerState['machine'],
  from: RunState | undefined,
  { signal, hardSignal, onMessage: say = () => {}, onStart, onProgress, onLog }: FinetuneOptions,
): Promise<TrainingEnd> {
  const { config, training, schedule } = prepared;
  const outputDir = config.output_dir;
  const { totalSteps } = schedule;
  const stepsDone = from?.state.step ?? 0;
  const stopRequested = () => {
    if (hardSignal?.aborted) return 'now';
    return signal?.aborted ? 'after_step' : undefined;
  };
  const notStarted: TrainingEnd = { outcome: 'stopped_at_once', step: stepsDone, loss: undefined };
  if (stopRequested()) return notStarted;
  // A run that was killed between a save and the removal that follows it left one too many.
  if (from && config.save_total_limit !== undefined)
    await pruneCheckpoints(outputDir, config.save_total_limit, stepsDone);
  const disk = diskUse(prepared, {
    stepsDone,
    checkpoints: ownCheckpoints(outputDir).filter(({ step }) => step <= stepsDone).length,
    holdsModel: holdsModel(outputDir),
  });
  checkFreeDisk(outputDir, disk.most);
  if (freeDisk(outputDir) < disk.mostStopped)
    say(`warning: ${outputDir}: the disk has no room for the checkpoint that Ctrl-C writes`);
  const warning = await checkMemory(prepared);
  if (warning) say(warning);

  const { model, gradients, optimizer, dispose } = allocate(prepared);
  const { parameters } = model;
  const objective = nextToken(model, prepared);
  const metricsFile = join(outputDir, 'metrics.jsonl');

  let doing: 'step' | 'evaluation' | 'checkpoint' = 'step';
  let lastStepDone = stepsDone === totalSteps;
  const sayWhatComes = () => {
    const finishing = lastStepDone
      ? 'all steps are done: saving what is left to save, with which the run ends'
      : `finishing this ${doing}, then ${doing === 'checkpoint' ? 'stopping' : 'saving'}`;
    say(`${finishing}; once more stops at once`);
  };
  const sayAtOnce = () => say('stopping at once');
  /** What `work` returns; undefined when it was given up because the user asked to stop at once. */
  const unlessStopped = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await work();
    } catch (error) {
      if (hardSignal?.aborted && error === hardSignal.reason) return undefined;
      throw error;
    }
  };
  const checkFinite = (step: number) => {
    if (!Number.isFinite(sumSquares(parameters.flat)))
      throw new UserError(
        `step ${step}: the weights are no longer finite numbers, so they are not saved; checkpoints saved earlier are ` +
          'whole. A lower learning_rate or a longer warm-up is where to start',
      );
  };
  const save = async (step: number, sinceLine: LineSums) => {
    doing = 'checkpoint';
    checkFinite(step);
    const state: TrainerState = {
      version: 2,
      step,
      total_steps: totalSteps,
      since_line: sinceLine,
      objective: objective.name,
      data_hash: prepared.dataset.hash,
      model: toHfConfig(prepared.model),
      config: JSON.parse(JSON.stringify(config)),
      machine,
      chosen: addon.chosen(prepared.device),
    };
    const path = await unlessStopped(() =>
      writeCheckpoint(outputDir, step, async (directory) => {
        const companions = await writeCompanions(directory, prepared.companions);
        const digests = await writeRunState(directory, parameters, optimizer, state, hardSignal);
        await syncMetrics(metricsFile);
        hardSignal?.throwIfAborted();
        return [...companions, ...digests];
      }),
    );
    if (path === undefined) return false;
    if (config.save_total_limit !== undefined)
      await pruneCheckpoints(outputDir, config.save_total_limit, step);
    say(`saved ${path}`);
    doing = 'step';
    return true;
  };
  const evaluation = async () => {
    doing = 'evaluation';
    const means = await evaluate(objective, evaluationBatches(prepared), stopRequested);
    doing = 'step';
    return means;
  };

  signal?.addEventListener('abort', sayWhatComes);
  hardSignal?.addEventListener('abort', sayAtOnce);
  try {
    if (from && from.state.objective !== objective.name) throw otherObjective(from, objective);
    if (from) await readRunState(from.path, parameters, optimizer);
    else {
      const { unused, notes } = await setInitialWeights(prepared, parameters);
      for (const note of notes) say(note);
      if (unused.length > 0)
        say(
          `${config.model_name_or_path}: ${plural(unused.length, 'tensor')} not used: ${unused.slice(0, 10).join(', ')}` +
            `${unused.length > 10 ? ', …' : ''}`,
        );
    }
    if (stopRequested()) return notStarted;
    await dropMetricsAfter(metricsFile, stepsDone);
    await replaceSynced(join(outputDir, RESOLVED_CONFIG), renderConfig(config));

    say(
      `${count(parameters.layout.parameters)} parameters in ${prepared.precision} on ${describeDevice(prepared)}`,
    );
    if (config.optimizer_offload !== 'none') say(describeOffload(prepared));
    say(
      from
        ? `resuming after step ${stepsDone} of ${totalSteps} from ${from.path}`
        : `${plural(totalSteps, 'step')} of ${config.gradient_accumulation_steps} × ${config.per_device_train_batch_size} ` +
            `${config.packing ? 'packed rows' : 'examples'} into ${outputDir}`,
    );
    onStart?.({ stepsDone, totalSteps });
    let reached: TrainingEnd = notStarted;
    const end = await unlessStopped(() =>
      train({
        objective,
        gradients,
        optimizer,
        steps: trainingSteps(prepared, stepsDone),
        sinceLine: from?.state.since_line,
        options: training,
        hooks: {
          log(line) {
            appendMetrics(metricsFile, line);
            onLog?.(line);
          },
          evaluate: evaluation,
          save,
          progress(step, loss) {
            lastStepDone = step === totalSteps;
            reached = { outcome: 'stopped_at_once', step, loss };
            onProgress?.({ step, totalSteps, loss });
          },
          stopRequested,
        },
      }),
    );
    const account = addon.account(prepared.device);
    if (account) say(account);
    if (end?.outcome !== 'finished') return end ?? reached;
    const saved = await unlessStopped(async () => {
      checkFinite(end.step);
      await writeFinalModel(outputDir, async (directory) => {
        const companions = await writeCompanions(directory, prepared.companions);
        const digests = await saveHfWeights(directory, prepared.model, parameters, { signal: hardSignal });
        await syncMetrics(metricsFile);
        hardSignal?.throwIfAborted();
        return [...companions, ...digests];
      });
      return true;
    });
    return saved ? end : { ...end, outcome: 'stopped_at_once' };
  } finally {
    signal?.removeEventListener('abort', sayWhatComes);
    hardSignal?.removeEventListener('abort', sayAtOnce);
    dispose();
  }
}

/** The micro-batches of each step, laid end to end when it comes to them. */
function* trainingSteps({ dataset, schedule }: PreparedRun, firstStep: number): Generator<TrainingStep> {
  for (const { microBatches, ...step } of schedule.steps(firstStep))
    yield { ...step, batches: microBatches.map((examples) => makeMicroBatch(dataset, examples)) };
}

function* evaluationBatches({ evalDataset, evaluation }: PreparedRun): Generator<TrainingBatch> {
  for (const examples of evaluation) yield makeMicroBatch(evalDataset!, examples);
}

function otherObjective({ path, state }: RunState, { name }: Objective): UserError {
  return new UserError(
    `--resume: ${path} was made with the objective ${state.objective}, this run has ${name}; ` +
      'start a new run in another output_dir',
  );
}

/** Where a run computes and with what, and why there if it was not told. */
function describeDevice({ config, device, precision }: PreparedRun): string {
  const products = addon.dtypes[precision === 'bf16' ? 'bfloat16' : 'float32'].code;
  const others = Object.entries(addon.missing()).map(
    ([name, missing]) => `; ${name} cannot be used: ${missing}`,
  );
  const why = config.device === 'auto' ? ` (auto takes the best there is${others.join('')})` : '';
  return `${device}${why}: ${addon.describe(device, products)}`;
}

function describeOffload({ device }: PreparedRun): string {
  const { hostBytes } = addon.stats(device);
  return hostBytes > 0
    ? `${gib(hostBytes)} of what only the optimizer needs are in the machine's memory`
    : `optimizer_offload: cpu changes nothing on ${device}, whose memory is the machine's`;
}

function machineState(): TrainerState['machine'] {
  const { threads, instructionSet, bf16Gemm, onednn } = addon.info();
  return {
    threads,
    instruction_set: instructionSet,
    bf16_gemm: bf16Gemm,
    onednn,
    tstrain: version,
    node: process.version,
  };
}
