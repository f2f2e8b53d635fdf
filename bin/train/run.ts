import { existsSync } from 'node:fs';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeMicroBatch } from '../../data/index.js';
import {
  checkFreeDisk,
  freeDisk,
  holdsModel,
  listCheckpoints,
  ownCheckpoints,
  pruneCheckpoints,
  writeCheckpoint,
  writeFinalModel,
} from '../../engine/checkpoint/directory.js';
import { saveHfWeights } from '../../engine/checkpoint/hf_model.js';
import { lockOutputDirectory } from '../../engine/checkpoint/lock.js';
import { addon, defaultDevice } from '../../engine/device/addon.js';
import { defaultThreads } from '../../engine/machine/threads.js';
import { toHfConfig } from '../../engine/model/config.js';
import { LlamaForCausalLM } from '../../engine/model/llama.js';
import { Gradients, Parameters } from '../../engine/model/parameters.js';
import { sumSquares } from '../../engine/ops/reduce.js';
import { AdamW } from '../../engine/optim/adamw.js';
import {
  type RunState,
  readRunState,
  type TrainerState,
  writeRunState,
} from '../../engine/train/checkpoint.js';
import { evaluate, type TrainingEnd, type TrainingStep, train } from '../../engine/train/loop.js';
import { appendMetrics, dropMetricsAfter, type LineSums } from '../../engine/train/metrics.js';
import { fileError, UserError } from '../../errors.js';
import { type RunConfig, renderConfig } from '../config.js';
import { diskUse, memoryWarning } from '../plan/needs.js';
import { evaluationExamples, type PreparedRun, prepareRun } from '../prepare.js';
import { version } from '../version.js';
import { count, plural } from '../words.js';
import { setInitialWeights } from './initial_weights.js';
import { makeProgress } from './progress.js';
import { checkResume, findResumePoint } from './resume.js';

/** The settings of a run with all defaults, saved beside what it makes; a name that nobody gives a config of theirs. */
const RESOLVED_CONFIG = 'resolved_config.yaml';

/** What a Hugging Face directory holds besides weights and config; copied where the run's tokenizer or model has it. */
const COMPANIONS = [
  'tokenizer.json',
  'tokenizer_config.json',
  'tokenizer.model',
  'special_tokens_map.json',
  'added_tokens.json',
  'generation_config.json',
];

export interface RunRequest {
  /** The YAML file, for messages. */
  file: string;
  config: RunConfig;
  resume: boolean;
  /** Whether to take the place of checkpoints and model that are in output_dir; otherwise they are refused. */
  replace?: boolean;
  /** Where lines for the user go. */
  screen: { write(text: string): unknown; isTTY?: boolean; columns?: number };
  /** What the user has asked for by now. */
  stopRequested: () => 'after_step' | 'now' | undefined;
  /**
   * Called before the first step, with what writes a line to the screen from then on: until then there is no work that
   * an interrupted run would lose.
   */
  onTraining: (say: (line: string) => void) => void;
}

/** One training run from its settings to its final model in `output_dir`. */
export async function runTraining({
  file,
  config,
  resume,
  replace = false,
  screen,
  stopRequested,
  onTraining,
}: RunRequest): Promise<TrainingEnd> {
  const outputDir = config.output_dir;
  const print = (line: string) => screen.write(`${line}\n`);
  if (resume && !existsSync(outputDir))
    throw new UserError(`output_dir ${outputDir}: no such directory; there is nothing to resume`);
  const unlock = await lockOutputDirectory(outputDir);
  try {
    if (!resume && replace)
      for (const { path } of ownCheckpoints(outputDir)) await rm(path, { recursive: true });
    if (!resume && listCheckpoints(outputDir).length > 0)
      throw new UserError(
        `${outputDir}: output_dir already has checkpoints; --resume goes on from the newest, or choose another output_dir`,
      );
    if (!resume && !replace && holdsModel(outputDir))
      throw new UserError(
        `${outputDir}: output_dir already holds a model, which this run would replace; choose another output_dir, ` +
          'or delete it first',
      );
    const from = resume ? await findResumePoint(outputDir, print) : undefined;
    // Sums are cut up by thread: a continuation uses as many as the run did unless told otherwise.
    addon.setThreads(config.threads ?? from?.state.machine.threads ?? defaultThreads());
    const prepared = await prepareRun(file, config, print);
    const machine = machineState();
    if (from) checkResume(from, prepared, machine, print);
    return await trainPrepared(prepared, machine, from, { screen, print, stopRequested, onTraining });
  } catch (error) {
    const path = (error as NodeJS.ErrnoException).path ?? `output_dir ${outputDir}`;
    throw fileError(error, path, 'what was saved earlier is whole');
  } finally {
    unlock();
  }
}

async function trainPrepared(
  prepared: PreparedRun,
  machine: TrainerState['machine'],
  from: RunState | undefined,
  {
    screen,
    print,
    stopRequested,
    onTraining,
  }: Pick<RunRequest, 'screen' | 'stopRequested' | 'onTraining'> & { print: (line: string) => void },
): Promise<TrainingEnd> {
  const { config, training, schedule } = prepared;
  const outputDir = config.output_dir;
  const { totalSteps } = schedule;
  const firstStep = from?.state.step ?? 0;
  // A run that was killed between a save and the removal that follows it left one too many.
  if (from && config.save_total_limit !== undefined)
    await pruneCheckpoints(outputDir, config.save_total_limit, firstStep);
  const there = {
    firstStep,
    checkpoints: ownCheckpoints(outputDir).filter(({ step }) => step <= firstStep).length,
    holdsModel: holdsModel(outputDir),
  };
  const disk = diskUse(prepared, there);
  checkFreeDisk(outputDir, disk.most);
  if (freeDisk(outputDir) < disk.mostStopped)
    print(`warning: ${outputDir}: the disk has no room for the checkpoint that Ctrl-C writes`);
  const warning = memoryWarning(prepared);
  if (warning) print(warning);

  const parameters = new Parameters(prepared.model, defaultDevice(), prepared.precision);
  const model = new LlamaForCausalLM(parameters);
  const optimizer = new AdamW(parameters.layout, defaultDevice(), prepared.optimizer);
  const gradients = new Gradients(parameters.layout, prepared.model, defaultDevice());
  const metricsFile = join(outputDir, 'metrics.jsonl');

  if (from) await readRunState(from.path, parameters, optimizer);
  else {
    const unused = await setInitialWeights(prepared, parameters);
    if (unused.length > 0) print(`${config.model_name_or_path}: not used: ${unused.join(', ')}`);
  }
  dropMetricsAfter(metricsFile, firstStep);
  const resolved = join(outputDir, RESOLVED_CONFIG);
  await writeFile(`${resolved}.tmp`, renderConfig(config));
  await rename(`${resolved}.tmp`, resolved);

  print(
    `${count(parameters.layout.parameters)} parameters in ${prepared.precision}, ` +
      `${plural(machine.threads, 'thread')}, ${machine.instruction_set}, GEMM by ` +
      `${machine.onednn ? `oneDNN ${machine.onednn}` : 'the built-in kernels (no oneDNN)'}` +
      `${config.bf16 && machine.bf16_gemm === 'float32' ? '; this processor has no bf16 instructions: bf16 products are computed in float32' : ''}`,
  );
  print(
    from
      ? `resuming after step ${firstStep} of ${totalSteps} from ${from.path}`
      : `${plural(totalSteps, 'step')} of ${config.gradient_accumulation_steps} × ${config.per_device_train_batch_size} ` +
          `${config.packing ? 'packed rows' : 'examples'} into ${outputDir}`,
  );

  const checkFinite = (step: number) => {
    if (!Number.isFinite(sumSquares(parameters.master)))
      throw new UserError(
        `step ${step}: the weights are no longer finite numbers, so they are not saved; checkpoints saved earlier are ` +
          'whole. A lower learning_rate or a longer warm-up is where to start',
      );
  };

  const progress = makeProgress(screen, totalSteps, firstStep);
  const save = async (step: number, sinceLine: LineSums) => {
    checkFinite(step);
    const state: TrainerState = {
      version: 1,
      step,
      total_steps: totalSteps,
      since_line: sinceLine,
      data_hash: prepared.dataset.hash,
      model: toHfConfig(prepared.model),
      config: JSON.parse(JSON.stringify(config)),
      machine,
    };
    const path = await writeCheckpoint(outputDir, step, async (directory) => {
      await copyCompanions(config, directory);
      return writeRunState(directory, parameters, optimizer, state);
    });
    if (config.save_total_limit !== undefined)
      await pruneCheckpoints(outputDir, config.save_total_limit, step);
    progress.say(`saved ${path}`);
  };

  onTraining(progress.say);
  const end = await train({
    model,
    gradients,
    optimizer,
    steps: trainingSteps(prepared, firstStep),
    sinceLine: from?.state.since_line,
    options: training,
    hooks: {
      log(line) {
        appendMetrics(metricsFile, line);
        progress.metrics(line);
      },
      evaluate: () => evaluate(model, evaluationBatches(prepared), stopRequested),
      save,
      progress: progress.step,
      stopRequested,
    },
  }).finally(progress.end);

  if (end.end === 'finished') {
    checkFinite(end.step);
    await writeFinalModel(outputDir, async (directory) => {
      await copyCompanions(config, directory);
      return saveHfWeights(directory, prepared.model, parameters);
    });
    print(`the model is in ${outputDir}`);
  }
  gradients.dispose();
  optimizer.dispose();
  model.dispose();
  return end;
}

/** The micro-batches of each step, laid end to end when it comes to them. */
function* trainingSteps({ dataset, schedule }: PreparedRun, firstStep: number): Generator<TrainingStep> {
  for (const { microBatches, ...step } of schedule.steps(firstStep))
    yield { ...step, batches: microBatches.map((examples) => makeMicroBatch(dataset, examples)) };
}

function* evaluationBatches(prepared: PreparedRun) {
  for (const examples of evaluationExamples(prepared)) yield makeMicroBatch(prepared.evalDataset!, examples);
}

/** Tokenizer files from the tokenizer's directory, generation_config.json from the model's. */
async function copyCompanions(config: RunConfig, directory: string): Promise<void> {
  for (const name of COMPANIONS)
    for (const source of [config.tokenizer_name_or_path, config.model_name_or_path]) {
      if (source === undefined || !existsSync(join(source, name))) continue;
      // Not copyFile: that of a read-only file could not be replaced later.
      await writeFile(join(directory, name), await readFile(join(source, name)));
      break;
    }
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
