import { type Dataset, measureRun, type RunSchedule } from '../../data/index.js';
import { addon, type DeviceName } from '../../engine/device/addon.js';
import { type DeviceMemory, deviceMemory } from '../../engine/device/memory.js';
import { addressesLeft, availableMemory } from '../../engine/machine/memory.js';
import type { LlamaConfig } from '../../engine/model/config.js';
import { layoutOf, type ParameterGroup } from '../../engine/model/layout.js';
import { causalLmSpecs } from '../../engine/model/specs.js';
import { type BatchSize, batchSize } from '../../engine/plan/batch_size.js';
import { type MemoryPlan, planKept, planRun, type RunPlan } from '../../engine/plan/plan.js';
import { UserError } from '../../errors.js';
import { arithmeticOf, deviceOf, type PreparedRun, scheduleOf } from '../prepare.js';
import type { PlanConfig, RunConfig } from '../settings.js';
import { gib } from '../words.js';
import { type Changes, type Saving, savings, savingsText, type TotalOf } from './savings.js';

/**
 * What a prepared run takes of memory and arithmetic; exact for the number of threads that is set, as far as steps are
 * looked at.
 */
export function planPrepared(
  prepared: PreparedRun,
  { steps = stepsLookedAt(prepared), specs }: { steps?: number; specs?: readonly ParameterGroup[] } = {},
): RunPlan {
  const { dataset, evalDataset, schedule, evaluation } = prepared;
  const training = Array.from(schedule.steps(0, steps), ({ microBatches }) =>
    microBatches.map((examples) => batchSize(examples, dataset)),
  ).flat();
  const sizes = evaluation.map((examples) => batchSize(examples, evalDataset!));
  const planned = plan(prepared, training, sizes, specs);
  return { ...planned, flops: planned.flops * (schedule.totalSteps / steps) };
}

/** What the run would take with some settings changed, as far as its first epoch tells. */
export async function planChanged(prepared: PreparedRun, changes: Changes): Promise<RunPlan> {
  const config = { ...prepared.config, ...changes };
  const [dataset, evalDataset] = [prepared.dataset, prepared.evalDataset].map(
    (data) => data && cutTo(config.model_max_length, data),
  );
  const schedule = await scheduleOf(config, dataset!.lengths);
  const changed = { ...prepared, ...arithmeticOf(config), config, dataset: dataset!, evalDataset, schedule };
  return planPrepared(changed, { steps: schedule.stepsIn(1) });
}

/** The sizes of the examples as they are with at most so many tokens: what is cut off is of the answer. */
function cutTo(most: number, data: Dataset): Dataset {
  const lengths = data.lengths.map((n) => Math.min(n, most));
  const labelCounts = data.labelCounts.map((n, i) => Math.max(0, n - (data.lengths[i] - lengths[i])));
  return { ...data, lengths, labelCounts };
}

/** What a micro-batch of full rows takes, all of whose tokens have a label: a plan without data. */
export function planFullRows(
  config: PlanConfig,
  model: LlamaConfig,
  specs?: readonly ParameterGroup[],
): RunPlan {
  const { per_device_train_batch_size: rows, model_max_length: length } = config;
  const size: BatchSize = {
    examples: [],
    lengths: Array(rows).fill(length),
    tokens: rows * length,
    labelTokens: rows * (length - 1),
    longest: length,
  };
  return planRun({ model, specs, ...arithmeticOf(config), training: [size], evaluation: [] });
}

/** So many examples, and so many epochs of a few, are looked at in a second or two; most runs have fewer. */
const EXAMPLES_LOOKED_AT = 2 ** 19;
const EPOCHS_LOOKED_AT = 1000;

/** The first steps of a run, of whole epochs, which stand for all of it in a plan; of most runs they are all. */
export function stepsLookedAt({ schedule, dataset }: Pick<PreparedRun, 'schedule' | 'dataset'>): number {
  const epochs = Math.max(1, Math.floor(EXAMPLES_LOOKED_AT / dataset.length));
  return schedule.stepsIn(Math.min(epochs, EPOCHS_LOOKED_AT));
}

/** What of memory a run may take. */
export interface Room {
  memory: DeviceMemory;
  /** What `ulimit -v` leaves of addresses: for the arena, and beside it. */
  arena: number;
  addresses: number;
  /** What of the machine's memory is available; the same where the device has none of its own. */
  onHost: number;
}

function roomOn(device: DeviceName): Room {
  const memory = deviceMemory(device);
  return {
    memory,
    arena: addon.stats(device).arenaReserved,
    addresses: memory.own ? Number.POSITIVE_INFINITY : addressesLeft(),
    onHost: availableMemory().available,
  };
}

/**
 * Refuses a run that cannot fit in memory, unless its settings insist. It looks at the first epoch's micro-batch with
 * the most tokens only, which takes no time and is off by some percent. The device is told what to expect.
 *
 * @returns a warning for a run that fits with swap alone, or insists
 * @throws UserError saying what it takes, what there is, and what takes less
 */
export async function checkMemory(
  prepared: PreparedRun,
  room: Room = roomOn(prepared.device),
): Promise<string | undefined> {
  const { schedule, dataset, config } = prepared;
  const { largest } = measureRun([schedule.epoch(0)], dataset);
  const { memory } = plan(prepared, [batchSize(largest, dataset)], []);
  // A quarter for what those percent are, and for another epoch's largest.
  addon.expectArena(prepared.device, Math.ceil(1.25 * memory.arena));
  return compare(
    'this run takes',
    memory,
    config,
    room,
    async (changes) => (await planChanged(prepared, changes)).memory.total,
  );
}

/** The same from the model's size alone, before there are data: without activations. */
export async function checkModelMemory(
  model: LlamaConfig,
  config: RunConfig,
  room: Room = roomOn(deviceOf(config)),
): Promise<void> {
  const kept = (changes: Changes) => planKept({ model, ...arithmeticOf({ ...config, ...changes }) });
  const subject = "weights, gradients and the optimizer's moments, whatever the batch, take";
  await compare(subject, { ...kept({}), arena: 0 }, config, room, async (changes) => kept(changes).total);
}

async function compare(
  subject: string,
  needed: Pick<MemoryPlan, 'total' | 'arena' | 'offloaded'>,
  config: RunConfig,
  { memory, arena, addresses, onHost }: Room,
  totalOf: TotalOf,
): Promise<string | undefined> {
  const beside = needed.total - needed.arena;
  // Without a limit the arena reserves more than there is memory.
  const unreachable = addresses < Number.POSITIVE_INFINITY && (needed.arena > arena || beside > addresses);
  const offloads = needed.offloaded <= onHost;
  if (needed.total <= memory.available && offloads && !unreachable) return undefined;
  const fault = !offloads
    ? `optimizer_offload: cpu puts ${gib(needed.offloaded)} into the machine's memory, and ${gib(onHost)} of it are ` +
      'available; optimizer_state_dtype: bfloat16, or a smaller model takes less'
    : unreachable
      ? `this run takes ${gib(beside)} of memory and an arena of ${gib(needed.arena)}, and \`ulimit -v\` leaves ` +
        `${gib(addresses)} and ${gib(arena)} of addresses; raise it`
      : tooLarge(subject, needed.total, memory, await savings(config, memory.available, totalOf));
  if (
    config.skip_memory_check ||
    (offloads && !unreachable && needed.total <= memory.available + memory.swap)
  )
    return `warning: ${fault}`;
  throw new UserError(`${fault}; --set skip_memory_check=true starts it all the same`);
}

/** What to say of a run, or of a part of it, that takes more memory than there is, and of what takes less. */
export function tooLarge(
  subject: string,
  total: number,
  memory: DeviceMemory,
  found: readonly Saving[],
): string {
  return (
    `${subject} ${gib(total)} of memory, and ${gib(memory.available)} of ${memory.own ? "the device's " : ''}` +
    `${gib(memory.total)} are available: the run will ${memory.own ? 'run out of memory' : 'swap or be killed'}; ` +
    savingsText(found)
  );
}

/** Bytes on the disk. */
export interface DiskUse {
  /** Weights, float32, and two moments. */
  checkpoint: number;
  finalModel: number;
  /** At its most: with all checkpoints that stay, and one more while it is written. */
  most: number;
  /** The same of a run that is stopped by Ctrl-C, which writes a checkpoint whatever the settings. */
  mostStopped: number;
}

/**
 * What a run writes into output_dir; of one that is resumed after `stepsDone`, what comes on top of the checkpoints and
 * the model that are there.
 */
export function diskUse(
  { model, config, training, schedule }: Pick<PreparedRun, 'model' | 'config' | 'training' | 'schedule'>,
  { stepsDone, checkpoints, holdsModel } = { stepsDone: 0, checkpoints: 0, holdsModel: false },
): DiskUse {
  const { parameters } = layoutOf(causalLmSpecs(model));
  const weights = 4 * parameters;
  const checkpoint = weights + 2 * addon.dtypes[config.optimizer_state_dtype].bytes * parameters;
  const { totalSteps } = schedule;
  const limit = config.save_total_limit ?? Number.POSITIVE_INFINITY;
  const every = training.saveEvery;
  const saves =
    every === 'no'
      ? 0
      : every === 'epoch'
        ? epochEnds(schedule, stepsDone)
        : Math.floor(totalSteps / every) - Math.floor(stepsDone / every);
  const bytes = (saves: number) => {
    // One more than stay is there while it is written, however many are there already.
    const added = saves === 0 ? 0 : Math.max(1, Math.min(saves, limit + 1 - checkpoints));
    return checkpoint * added + (holdsModel ? 0 : weights);
  };
  return {
    checkpoint,
    finalModel: weights,
    most: bytes(saves),
    mostStopped: bytes(Math.max(1, saves)),
  };
}

/** How many epochs end after `stepsDone`, the end of the run being one too. */
function epochEnds(schedule: RunSchedule, stepsDone: number): number {
  return stepsDone < schedule.totalSteps ? schedule.epochs - schedule.epochOf(stepsDone) : 0;
}

function plan(
  prepared: PreparedRun,
  training: readonly BatchSize[],
  evaluation: readonly BatchSize[],
  specs?: readonly ParameterGroup[],
): RunPlan {
  return planRun({ ...prepared, specs, training, evaluation });
}
