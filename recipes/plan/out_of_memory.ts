import { addon } from '../../engine/device/addon.js';
import { deviceMemory } from '../../engine/device/memory.js';
import { bytesText } from '../../engine/machine/memory.js';
import type { MemoryPlan } from '../../engine/plan/plan.js';
import { UserError } from '../../errors.js';
import type { PreparedRun } from '../prepare.js';
import { planChanged } from './needs.js';
import { savings, savingsText } from './savings.js';

/**
 * What to say of a run whose memory was not enough, once it has given all of it back: what was asked for and what was
 * free (which the addon's message has), what the run takes by its plan, and which settings take less.
 */
export async function outOfMemory(
  error: Error,
  prepared: PreparedRun,
  available = freeAgain(prepared),
): Promise<UserError> {
  const { memory } = await planChanged(prepared, {});
  const found = await savings(
    prepared.config,
    available,
    async (changes) => (await planChanged(prepared, changes)).memory.total,
  );
  const all = `this run takes ${bytesText(memory.total)} by its plan: ${partsText(memory)}`;
  const room =
    memory.total > available
      ? `; ${bytesText(available)} are free without it`
      : `; that fits into the ${bytesText(available)} that are free now, so something else had taken memory`;
  return new UserError([error.message, all + room, savingsText(found)], { cause: error });
}

function freeAgain({ device }: PreparedRun): number {
  addon.resetStats(device);
  return deviceMemory(device).available;
}

/** The parts of a plan in words, the largest first, without those of less than a hundredth. */
function partsText(memory: MemoryPlan): string {
  const { arena: _, offloaded: _elsewhere, total, remainders, tablesAndBatches, ...others } = memory;
  const parts = Object.entries({
    ...others,
    'what bf16 leaves of the weights': remainders,
    'RoPE tables and batches': tablesAndBatches,
  });
  return parts
    .filter(([, bytes]) => bytes >= total / 100)
    .sort(([, a], [, b]) => b - a)
    .map(([name, bytes]) => `${name} ${bytesText(bytes)}`)
    .join(', ');
}
