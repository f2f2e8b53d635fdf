import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { complaintsOf, hastyCompiler, pack } from './packed.js';

// The package in an empty project, of a tarball and of a git address, under each package manager. These come from the
// registry, and each installation compiles: minutes, so only when asked for.

const root = join(import.meta.dirname, '..');

interface Manager {
  /** The npm package that it is. */
  package: string;
  /** Files of the project besides package.json. */
  files?: Record<string, string>;
  /** What a person types to have tstrain, which stands at $TSTRAIN, and the TF.js beside it. */
  install: string;
  /** The same where $TSTRAIN is a git address, if that takes other words. */
  installGit?: string;
  /** The transport of the git address; a local file unless said otherwise. */
  transport?: 'git';
  /** What stands before `tstrain` and before `node`. */
  npx?: string;
  node?: string;
}

const TFJS = '@tensorflow/tfjs-core@4.22.0';
const pnpm = {
  // The first ends with an error in pnpm 12, until somebody has approved of the scripts.
  install: `pnpm add "$TSTRAIN" ${TFJS}; pnpm approve-builds --all`,
  // From a git address pnpm installs nothing before its scripts are allowed, and says so.
  installGit: `pnpm add --dangerously-allow-all-builds "$TSTRAIN" ${TFJS}`,
};
const YARN_ALLOWS = 'enableScripts: true\napprovedGitRepositories: ["**"]\n';
const yarn4 = {
  package: '@yarnpkg/cli-dist@4.18.1',
  install: `yarn add "tstrain@$TSTRAIN" ${TFJS}`,
  transport: 'git',
} as const;

const MANAGERS: Record<string, Manager> = {
  npm: { package: 'npm@11', install: `npm install "$TSTRAIN" ${TFJS}` },
  'pnpm 10': { ...pnpm, package: 'pnpm@10.34.8' },
  'pnpm 12': { ...pnpm, package: 'pnpm@12.21.0' },
  'yarn 1': { package: 'yarn@1.22.22', install: `yarn add "$TSTRAIN" ${TFJS}` },
  'yarn 4 with node_modules': {
    ...yarn4,
    files: { 'yarn.lock': '', '.yarnrc.yml': `${YARN_ALLOWS}nodeLinker: node-modules\n` },
  },
  "yarn 4 with Plug'n'Play": {
    ...yarn4,
    files: { 'yarn.lock': '', '.yarnrc.yml': YARN_ALLOWS },
    npx: 'yarn',
    node: 'yarn node',
  },
};

/** Where git serves what yarn 4 does not take from a file. */
const PORT = 19_418;

/** Uses the addon through TF.js. */
const PROGRAM = `
import * as tf from '@tensorflow/tfjs-core';
import { nativeOf, rmsnorm } from 'tstrain';

await tf.setBackend('native');
const dx = tf.grad((x) => tf.sum(rmsnorm(x, tf.ones([2]), 1e-5)))(tf.tensor2d([[3, 4]]));
console.log(nativeOf(dx).shape.join());
`;

describe.skipIf(!process.env.TSTRAIN_LONG_TESTS)('with TSTRAIN_LONG_TESTS=1', () => {
  let home: string;
  let environment: NodeJS.ProcessEnv;
  let daemon: ChildProcess;

  beforeAll(() => {
    home = mkdtempSync(join(tmpdir(), 'tstrain-managers-'));
    const npmrc = join(homedir(), '.npmrc');
    if (existsSync(npmrc)) copyFileSync(npmrc, join(home, '.npmrc'));
    const npmConfig = (key: string) =>
      execFileSync('npm', ['config', 'get', key], { encoding: 'utf8' }).trim();
    environment = {
      ...process.env,
      HOME: home,
      CXX: hastyCompiler(home),
      // yarn reads little of what npm is told.
      YARN_REGISTRY: npmConfig('registry'),
      YARN_NPM_REGISTRY_SERVER: npmConfig('registry'),
      YARN_HTTPS_CA_FILE_PATH: npmConfig('cafile').replace(/^null$/, ''),
    };
    pack(home);
    commitSources(join(home, 'sources'));
    const serve = ['daemon', '--listen=127.0.0.1', `--port=${PORT}`, `--base-path=${home}`, '--export-all'];
    daemon = spawn('git', serve, { stdio: 'ignore' });
  }, 600_000);
  afterAll(() => {
    daemon.kill();
    rmSync(home, { recursive: true, force: true });
  }, 120_000);

  /** Runs a line in the shell, in `directory`. */
  function sh(line: string, directory: string, variables: NodeJS.ProcessEnv = {}) {
    const { status, stdout, stderr } = spawnSync('sh', ['-c', line], {
      cwd: directory,
      env: { ...environment, ...variables },
      encoding: 'utf8',
    });
    return { status, stdout, output: `${stdout}${stderr}` };
  }

  describe.each(Object.entries(MANAGERS))('under %s', (name, manager) => {
    const { install, installGit = install, transport, files = {}, npx = 'npx', node = 'node' } = manager;

    it.each(['tarball', 'git address'])(
      'the package is installed from a %s, and works',
      (from) => {
        const bin = join(home, 'managers', name.replaceAll(/\W/g, '-'));
        mkdirSync(bin, { recursive: true });
        const got = sh(`npm install --prefix . --no-audit --no-fund '${manager.package}'`, bin);
        expect(got.status, got.output).toBe(0);
        const PATH = `${join(bin, 'node_modules/.bin')}${delimiter}${process.env.PATH}`;

        // make takes a space for the end of a path.
        const project = join(home, `a project, ${name}, ${from}`);
        mkdirSync(project);
        const all = { 'package.json': JSON.stringify({ type: 'module', private: true }), ...files };
        for (const [file, text] of Object.entries(all)) writeFileSync(join(project, file), text);
        const installed =
          from === 'tarball'
            ? sh(install, project, { PATH, TSTRAIN: `file:${join(home, 'tstrain-0.1.0.tgz')}` })
            : sh(installGit, project, {
                PATH,
                TSTRAIN:
                  transport === 'git'
                    ? `git://127.0.0.1:${PORT}/sources/.git`
                    : `git+file://${join(home, 'sources')}`,
              });
        expect(installed.status, installed.output).toBe(0);

        const doctor = sh(`${npx} tstrain doctor`, project, { PATH });
        expect(doctor.output).toMatch(/^device +cpu: the only one that can be used here$/m);
        expect(doctor.status).toBe(0);

        writeFileSync(join(project, 'program.ts'), PROGRAM);
        if (existsSync(join(project, 'node_modules'))) {
          expect(readdirSync(join(project, 'node_modules/tstrain'))).not.toContain('tests');
          expect(complaintsOf(project)).toEqual({ bundler: [], node16: [] });
        } else {
          // tsc finds nothing under Plug'n'Play, and this program is JavaScript as well.
          copyFileSync(join(project, 'program.ts'), join(project, 'program.js'));
        }
        expect(sh(`${node} program.js`, project, { PATH })).toMatchObject({ status: 0, stdout: '1,2\n' });
      },
      600_000,
    );
  });
});

/** The sources as they are, in a repository of their own. */
function commitSources(directory: string): void {
  const sources = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
  });
  for (const file of sources.trim().split('\n')) cpSync(join(root, file), join(directory, file));
  const identity = ['-c', 'user.name=test', '-c', 'user.email=test@localhost'];
  for (const args of [
    ['init', '--quiet'],
    ['add', '--all'],
    [...identity, 'commit', '--quiet', '-m', 'all'],
  ])
    execFileSync('git', args, { cwd: directory });
}
