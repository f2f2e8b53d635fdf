import { availableMemory, freeSwap, type Memory } from '../machine/memory.js';
import { addon, type DeviceName } from './addon.js';

/** Whether the addon threw this for want of memory, on a device or the host. */
export function isOutOfMemory(error: unknown): error is Error {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === 'OUT_OF_MEMORY';
}

/** Where tensors of a device lie: in the machine's memory, or in memory of its own. Bytes. */
export interface DeviceMemory extends Memory {
  /** Free swap space: slow, but not the end. None behind memory of a device's own. */
  swap: number;
  /** Whether it is the device's own. */
  own: boolean;
}

export function deviceMemory(device: DeviceName): DeviceMemory {
  const { total, free } = addon.ownMemory(device);
  if (total > 0) return { total, available: free, limited: false, swap: 0, own: true };
  const memory = availableMemory();
  return { ...memory, swap: memory.limited ? 0 : freeSwap(), own: false };
}
