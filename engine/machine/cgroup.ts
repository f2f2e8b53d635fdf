import { readFileSync } from 'node:fs';

/** Reads a text file that the kernel offers; `undefined` when there is none. Tests give a machine of their own. */
export type ReadFile = (path: string) => string | undefined;

export const kernelFile: ReadFile = (path) => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
};

/** One control group that holds this process; version 2 and 1 differ in the names of their files. */
export interface ControlGroup {
  version: 1 | 2;
  directory: string;
}

/**
 * The control groups that limit this process, its own one first and then those around it: the tightest limit
 * binds. In a container the path may be the host's and not exist here; the mount's root is the container then,
 * so directories without files must be skipped, not taken for an error.
 */
export function controlGroups(controller: 'cpu' | 'memory', read: ReadFile = kernelFile): ControlGroup[] {
  const groups: ControlGroup[] = [];
  for (const line of (read('/proc/self/cgroup') ?? '').split('\n')) {
    const [, id, controllers, path] = /^(\d+):([^:]*):(\/.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    const unified = id === '0' && controllers === '';
    if (!unified && !controllers.split(',').includes(controller)) continue;
    const mount = unified ? '/sys/fs/cgroup' : `/sys/fs/cgroup/${controller}`;
    for (let inner = path.replace(/\/+$/, ''); ; inner = inner.slice(0, inner.lastIndexOf('/'))) {
      groups.push({ version: unified ? 2 : 1, directory: mount + inner });
      if (inner === '') break;
    }
  }
  return groups;
}
