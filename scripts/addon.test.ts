import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';

/** The install script, with the environment changed in `changes`. */
function install(changes: NodeJS.ProcessEnv) {
  const { status, stderr } = spawnSync(process.execPath, [join(import.meta.dirname, 'addon.mjs')], {
    env: { ...process.env, ...changes },
    encoding: 'utf8',
  });
  return { status, stderr };
}

it('says in one line which tools are missing', () => {
  expect(install({ PATH: '/nowhere', CXX: '' })).toEqual({
    status: 1,
    stderr:
      'tstrain: the native addon cannot be built: it takes g++ and make, and there is no g++ and no make; ' +
      'on Debian or Ubuntu: apt-get install g++ make\n',
  });
});

it('says in one line that the compiler is too old', () => {
  // As g++ 10 fails: it knows no -march=x86-64-v4.
  expect(install({ CXX: 'g++ -mno-such-cpu' })).toEqual({
    status: 1,
    stderr:
      'tstrain: the native addon cannot be built: it takes g++ 11 or newer, with OpenMP, and ' +
      'g++ -mno-such-cpu is not; the environment variable CXX names another\n',
  });
});
