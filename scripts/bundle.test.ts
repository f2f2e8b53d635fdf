import { execFileSync, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { assemble, glibcFaults } from './bundle.mjs';

// The bundle in a root directory of its own, with a shell and the libraries of glibc, and no Node, compiler or other
// library. What unpacks is tried with TSTRAIN_LONG_TESTS=1, for packing takes minutes; without, the tree that is packed.

const root = join(import.meta.dirname, '..');
const long = Boolean(process.env.TSTRAIN_LONG_TESTS);

/** Runs `sh -c "$1" "$0" "$2"…` in the root directory $0, which gets this machine's /proc and /dev. */
const ENTER = `
mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && cd "$0" &&
exec chroot "$0" /bin/sh -c "$@"`;

/** Why no bundle is made here, or undefined. */
function notMade(): string | undefined {
  const { stdout } = spawnSync('ldd', [join(root, 'build/native/tstrain.node')], { encoding: 'utf8' });
  if (!stdout.includes('libdnnl')) return 'the addon was built without oneDNN';
  if (spawnSync('dpkg', ['--version']).error) return 'it is dpkg that knows the licences of libraries';
}

const noBundle = notMade();
if (noBundle !== undefined) console.warn(`skipped: the bundle (${noBundle})`);
describe.skipIf(noBundle !== undefined)('the bundle', () => {
  let home: string;
  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), 'tstrain bundle-'));
    execFileSync(process.execPath, [join(root, 'scripts/build.mjs')], { stdio: 'pipe' });
    const empty = makeRoot();
    if (!long) return await assemble(join(empty, 'tstrain'));
    execFileSync(process.execPath, [join(root, 'scripts/bundle.mjs')], { stdio: 'pipe' });
    const archives = readdirSync(join(root, 'build')).filter((name) => /^tstrain-.*\.tar\.xz$/.test(name));
    const times = new Map(archives.map((name) => [name, statSync(join(root, 'build', name)).mtimeMs]));
    const newest = archives.sort((a, b) => times.get(b)! - times.get(a)!)[0];
    execFileSync('tar', ['-xJf', join(root, 'build', newest), '-C', empty]);
    renameSync(join(empty, newest.replace('.tar.xz', '')), join(empty, 'tstrain'));
  }, 900_000);
  afterAll(() => rmSync(home, { recursive: true, force: true }), 60_000);

  /** A root directory that holds a shell and glibc. */
  function makeRoot(): string {
    const directory = join(home, 'root');
    const shell = '/bin/sh';
    const libraries = [shell, process.execPath].flatMap((file) =>
      [...execFileSync('ldd', [file], { encoding: 'utf8' }).matchAll(/(\/\S+) \(0x/g)].map(
        ([, path]) => path,
      ),
    );
    const glibc = /\/(ld-linux-x86-64|lib(c|m|dl|pthread|rt))\.so\.\d$/;
    for (const file of [shell, ...libraries.filter((path) => glibc.test(path))]) {
      mkdirSync(join(directory, dirname(file)), { recursive: true });
      copyFileSync(file, join(directory, file));
    }
    for (const name of ['proc', 'dev', 'tmp', 'root']) mkdirSync(join(directory, name));
    return directory;
  }

  /** Why this machine lets nobody enter another root directory, or undefined. */
  function notAllowed(): string | undefined {
    const { status, stderr, error } = spawnSync(
      'unshare',
      ['--mount', 'mount', '-t', 'tmpfs', 'none', tmpdir()],
      {
        encoding: 'utf8',
      },
    );
    return status === 0 ? undefined : (error?.message ?? stderr.trim());
  }

  const reason = notAllowed();
  if (reason !== undefined) console.warn(`skipped: the bundle in an empty root (${reason})`);
  describe.skipIf(reason !== undefined)('in an empty root', () => {
    /** Runs a line of shell there. */
    function inRoot(line: string) {
      const { status, stdout, stderr } = spawnSync(
        'unshare',
        ['--mount', 'sh', '-c', ENTER, join(home, 'root'), line],
        { encoding: 'utf8', env: { HOME: '/root', PATH: process.env.PATH } },
      );
      return { status, stdout, stderr };
    }

    it('there is nothing else', () => {
      expect(inRoot('echo /bin/* /lib/x86_64-linux-gnu/*; command -v node').stdout).toMatch(
        /^\/bin\/sh (\/lib\/x86_64-linux-gnu\/lib(c|m|dl|pthread)\.so\.\d ?)+\n$/,
      );
    });

    it('doctor says what the machine has', () => {
      const { status, stdout, stderr } = inRoot('tstrain/tstrain doctor');
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout).toMatch(/^GEMM +oneDNN \d/m);
      expect(stdout).toMatch(/^device +cpu: /m);
    });

    it('card.sh says in one line that there is no card', () => {
      const start = performance.now();
      expect(inRoot('tstrain/scripts/card.sh a')).toEqual({
        status: 1,
        stdout: '',
        stderr: "card.sh: there is no card to ask: NVIDIA's driver (libcuda.so.1) is not installed\n",
      });
      expect(performance.now() - start).toBeLessThan(2000);
    });

    it('the op cases are there, and hold', () => {
      const { status, stdout } = inRoot(
        'LD_LIBRARY_PATH=tstrain/lib tstrain/bin/node tstrain/dist/tests/run_op_cases.js cpu',
      );
      expect(status).toBe(0);
      const { passed, failed } = JSON.parse(stdout.trim().split('\n').at(-1)!);
      expect(failed).toEqual([]);
      expect(passed).toBeGreaterThan(500);
    }, 300_000);

    it('trains on the data of the quickstart, and what it trained answers', () => {
      const write =
        "import('/tstrain/dist/quickstart/index.js').then((m) => m.writeQuickstartData('out/quickstart-data'))";
      const { status, stdout, stderr } = inRoot(`
      export LD_LIBRARY_PATH=/tstrain/lib
      /tstrain/bin/node -e "${write}" || exit
      unset LD_LIBRARY_PATH
      tstrain/tstrain --config tstrain/configs/quickstart.yaml --set max_steps=20 --set logging_steps=10 || exit
      tstrain/tstrain generate --model out/quickstart --instruction "Reverse the word flute." --max-new-tokens 4`);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout).toMatch(/the model is in out\/quickstart/);
      const metrics = readFileSync(join(home, 'root/out/quickstart/metrics.jsonl'), 'utf8')
        .trim()
        .split('\n');
      const losses = metrics.map((line) => JSON.parse(line)).filter((line) => 'loss' in line);
      expect(losses.map(({ step }) => step)).toEqual([10, 20]);
      expect(losses[1].loss).toBeLessThan(losses[0].loss);
    }, 300_000);

    it.skipIf(!long)(
      'the quickstart runs to its end',
      () => {
        const { status, stdout } = inRoot('cd /root && /tstrain/tstrain quickstart');
        expect(status).toBe(0);
        expect(Number(/^ {2}all +([\d.]+) %/m.exec(stdout)![1])).toBeGreaterThanOrEqual(90);
        expect(stdout).toMatch(/^next: \/tstrain\/tstrain generate /m);
      },
      1_200_000,
    );
  });

  it('starts by links, from anywhere, and from a directory with a space in its name', () => {
    symlinkSync('root/tstrain/tstrain', join(home, 'relative'));
    mkdirSync(join(home, 'links'));
    symlinkSync(join(home, 'relative'), join(home, 'links/absolute'));
    const started = [
      spawnSync(join(home, 'links/absolute'), ['--version'], { encoding: 'utf8' }),
      spawnSync('./relative', ['--version'], { encoding: 'utf8', cwd: home }),
      spawnSync('sh', ['tstrain', '--version'], { encoding: 'utf8', cwd: join(home, 'root/tstrain') }),
      spawnSync('absolute', ['--version'], {
        encoding: 'utf8',
        env: { PATH: `${join(home, 'links')}:/bin` },
      }),
    ];
    for (const { stdout, stderr } of started)
      expect({ stdout, stderr }).toEqual({ stdout: '0.1.0\n', stderr: '' });
  });

  it('what needs a newer glibc is named', () => {
    const file = join(home, 'root/tstrain/build/native/tstrain.node');
    expect(glibcFaults(file, 'the addon')).toEqual([]);
    // Threads came into libc with 2.34; memcpy has had its version since 2.14.
    const faults = glibcFaults(file, 'the addon', '2.13');
    expect(faults).toContain('the addon needs GLIBC_2.14 (memcpy)');
  });
});
