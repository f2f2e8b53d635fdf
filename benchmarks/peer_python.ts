import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../errors.js';
import { root } from './paths.js';

/** A Python that has PyTorch and transformers, or why there is none. */
export type PeerPython = { python: string } | { missing: string };

const PACKAGES = ['torch', 'transformers', 'numpy'];
const directory = join(root, 'build/peer');

/**
 * The Python to run the peer with: the one asked for, else a virtual environment of the benchmark's own in
 * build/peer, which is made when it is not there. Python is needed for nothing else.
 *
 * @throws UserError when the Python that was asked for lacks the packages
 */
export function findPeerPython(asked: string | undefined, say: (text: string) => void): PeerPython {
  if (asked !== undefined) {
    const { error, stderr, status } = spawnSync(asked, ['-c', `import ${PACKAGES.join(', ')}`], {
      encoding: 'utf8',
    });
    if (status === 0) return { python: asked };
    throw new UserError(`--peer-python ${asked}: ${error?.message ?? stderr.trim().split('\n').at(-1)}`);
  }
  const python = join(directory, 'bin/python');
  // Written last: an environment without it was not finished.
  const whole = join(directory, 'complete');
  if (existsSync(whole)) return { python };
  rmSync(directory, { recursive: true, force: true });
  say(`making a virtual environment with ${PACKAGES.join(', ')} in build/peer (some gigabytes, once)`);
  const steps: [string, string[]][] = [
    ['python3', ['-m', 'venv', directory]],
    [python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...PACKAGES]],
  ];
  for (const [command, args] of steps) {
    const { error, status, stderr, stdout } = spawnSync(command, args, { encoding: 'utf8' });
    if (status === 0) continue;
    rmSync(directory, { recursive: true, force: true });
    const last = error?.message ?? `${stdout}${stderr}`.trim().split('\n').at(-1);
    return { missing: `${args.slice(0, 3).join(' ')}: ${last}` };
  }
  writeFileSync(whole, '');
  return { python };
}

/** That Python, if its PyTorch has a card: on such machines nothing is installed. */
export function pythonWithCard(python: string): PeerPython {
  const check =
    'import torch, transformers; assert torch.cuda.is_available(), f"PyTorch {torch.__version__} has no card"';
  const { status, signal, error, stderr } = spawnSync(python, ['-c', check], { encoding: 'utf8' });
  if (status === 0) return { python };
  if (signal) return { missing: `${python} with PyTorch ended by ${signal}` };
  return { missing: `${python}: ${error?.message ?? stderr.trim().split('\n').at(-1)}` };
}
