import { measureRun, type RunSchedule } from '../../data/index.js';
import { addon, type DeviceName } from '../../engine/device/addon.js';
import { type DeviceMemory, deviceMemory } from '../../engine/device/memory.js';
import type { FloatType } from '../../engine/device/native_tensor.js';
import { addressesLeft } from '../../engine/machine/memory.js';
import type { LlamaConfig } from '../../engine/model/config.js';
import { layoutOf } from '../../engine/model/layout.js';
import { causalLmSpecs } from '../../engine/model/specs.js';
import { type BatchSize, batchSize } from '../../engine/plan/batch_size.js';
import { type MemoryPlan, planRun, type RunPlan } from '../../engine/plan/plan.js';
import { UserError } from '../../errors.js';
import { deviceOf, type PreparedRun } from '../prepare.js';
import type { RunConfig } from '../settings.js';
import { gib } from '../words.js';

/**
 * What a prepared run takes of memory and arithmetic; exact for the number of threads that is set, as far as steps are
 * looked at.
 */
export function planPrepared(prepared: PreparedRun): RunPlan {
  const { dataset, evalDataset, schedule, evaluation } = prepared;
  const steps = stepsLookedAt(prepared);
  const training = Array.from(schedule.steps(0, steps), ({ microBatches }) =>
    microBatches.map((examples) => batchSize(examples, dataset)),
  ).flat();
  const sizes = evaluation.map((examples) => batchSize(examples, evalDataset!));
  const planned = plan(prepared, training, sizes);
  return { ...planned, flops: planned.flops * (schedule.totalSteps / steps) };
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
}

function roomOn(device: DeviceName): Room {
  const memory = deviceMemory(device);
  return {
    memory,
    arena: addon.stats(device).arenaReserved,
    addresses: memory.own ? Number.POSITIVE_INFINITY : addressesLeft(),
  };
}

/**
 * Refuses a run that cannot fit in memory, unless its settings insist. It looks at the first epoch's micro-batch with
 * the most tokens only, which takes no time and is off by some percent. The device is told what to expect.
 *
 * @returns a warning for a run that fits with swap alone, or insists
 * @throws UserError saying what it takes, what there is, and what takes less
 */
export function checkMemory(prepared: PreparedRun, room: Room = roomOn(prepared.device)): string | undefined {
  const { schedule, dataset, config } = prepared;
  const { largest } = measureRun([schedule.epoch(0)], dataset);
  const { memory } = plan(prepared, [batchSize(largest, dataset)], []);
  // A quarter for what those percent are, and for another epoch's largest.
  addon.expectArena(prepared.device, Math.ceil(1.25 * memory.arena));
  return compare(memory, config, room);
}

/** The same from the model's size alone, before there are data: without activations. */
export function checkModelMemory(
  model: LlamaConfig,
  config: RunConfig,
  room: Room = roomOn(deviceOf(config)),
): void {
  // Weights, which with what bf16 leaves of them are float32 in either case, gradients and two moments.
  const [gradient, moment] = [config.gradient_dtype, config.optimizer_state_dtype].map(bytesOf);
  const total = (4 + gradient + 2 * moment) * layoutOf(causalLmSpecs(model)).parameters;
  compare({ total, arena: 0 }, config, room);
}

function bytesOf(type: FloatType): number {
  return addon.dtypes[type].bytes;
}

function compare(
  needed: Pick<MemoryPlan, 'total' | 'arena'>,
  config: RunConfig,
  { memory, arena, addresses }: Room,
): string | undefined {
  const beside = needed.total - needed.arena;
  // Without a limit the arena reserves more than there is memory.
  const unreachable = addresses < Number.POSITIVE_INFINITY && (needed.arena > arena || beside > addresses);
  if (needed.total <= memory.available && !unreachable) return undefined;
  const fault = unreachable
    ? `this run takes ${gib(beside)} of memory and an arena of ${gib(needed.arena)}, and \`ulimit -v\` leaves ` +
      `${gib(addresses)} and ${gib(arena)} of addresses; raise it`
    : tooLarge(needed, memory, config);
  if (config.skip_memory_check || (!unreachable && needed.total <= memory.available + memory.swap))
    return `warning: ${fault}`;
  throw new UserError(`${fault}; --set skip_memory_check=true starts it all the same`);
}

/** What to say of a run that takes more memory than there is, and of what takes less. */
export function tooLarge(
  { total, arena }: Pick<MemoryPlan, 'total' | 'arena'>,
  memory: DeviceMemory,
  config: RunConfig,
): string {
  const fixed = total - arena;
  const savings = [
    config.gradient_checkpointing ? [] : ['gradient_checkpointing: true'],
    config.per_device_train_batch_size === 1
      ? []
      : ['a smaller per_device_train_batch_size with more gradient_accumulation_steps'],
    ['a smaller model_max_length'],
  ].flat();
  const ofSteps = `${gib(arena)} are activations: ${savings.join(', or ')} takes less; \`tstrain plan\` tells how much`;
  const narrower = [
    config.optimizer_state_dtype === 'bfloat16' ? [] : ['optimizer_state_dtype: bfloat16'],
    config.gradient_dtype === 'bfloat16'
      ? []
      : [`gradient_dtype: bfloat16${config.bf16 ? '' : ' with bf16: true'}`],
    ['a smaller model'],
  ].flat();
  const ofModel =
    `${gib(fixed)} are weights, gradients and the optimizer's moments, whatever the batch: ${narrower.join(', or ')} ` +
    'takes less (so would LoRA, which cannot be chosen yet)';
  // What does not fit even without activations is not helped by fewer of them.
  const advice = fixed > memory.available ? ofModel : arena > fixed ? ofSteps : `${ofModel}; ${ofSteps}`;
  return (
    `this run takes ${gib(total)} of memory, and ${gib(memory.available)} of ${memory.own ? "the device's " : ''}` +
    `${gib(memory.total)} are available: it will ${memory.own ? 'run out of memory' : 'swap or be killed'}. ${advice}`
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
  const checkpoint = weights + 2 * bytesOf(config.optimizer_state_dtype) * parameters;
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
  { model, device, precision, gradientType, optimizer, gradientCheckpointing }: PreparedRun,
  training: readonly BatchSize[],
  evaluation: readonly BatchSize[],
): RunPlan {
  const { stateType } = optimizer;
  return planRun({
    model,
    device,
    precision,
    gradientType,
    stateType,
    gradientCheckpointing,
    training,
    evaluation,
  });
}
