import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Settings } from '../index.js';
import { complaintsOf, hastyCompiler, pack } from './packed.js';
import { readSafetensors } from './read_safetensors.js';
import { describeShared, shared } from './shared.js';
import { writeTinyModel } from './tiny_model.js';
import { RunDirectory, randomRows, TINY } from './tiny_run.js';

// The package as a program outside the repository has it: packed, installed by npm in an empty project, its types
// checked.
const root = join(import.meta.dirname, '..');

/** Trains the settings in settings.json: without a stop into whole/; into out/ with a stop after 5 steps. */
const PROGRAM = `
import { readFileSync } from 'node:fs';
import { type EvalLine, finetune, type Settings, type TrainLine, UserError } from 'tstrain';

const settings: Settings = JSON.parse(readFileSync('settings.json', 'utf8'));
// @ts-expect-error: keys and values have types
const mistyped: Settings = { data_path: 'rows.jsonl', output_dir: 'out', learning_rat: 1e-3 };
const refused: string = await finetune(mistyped).then(
  () => 'trained',
  (error: unknown) => (error instanceof UserError ? error.faults[0] : String(error)),
);

const whole = await finetune({ ...settings, output_dir: 'whole' });

const lines: (TrainLine | EvalLine)[] = [];
const onLog = (line: TrainLine | EvalLine): void => {
  lines.push(line);
};
const stop = new AbortController();
const stopped = await finetune(settings, {
  signal: stop.signal,
  onLog,
  onProgress({ step }) {
    if (step === 5) stop.abort();
  },
});
const resumed = await finetune(settings, { resume: true, onLog });
console.log(JSON.stringify({ refused, ends: [whole, stopped, resumed], lines }));
`;

let project: RunDirectory;
/** What tsc says of the programs. */
let complaints: Record<string, string[]>;

beforeAll(() => {
  project = new RunDirectory();
  const tarball = pack(project.path);
  for (const [file, content] of Object.entries(projectOf(tarball)))
    project.write(file, JSON.stringify(content));
  execFileSync('npm', ['ci', '--prefer-offline', '--no-audit', '--no-fund'], {
    cwd: project.path,
    env: { ...process.env, CXX: hastyCompiler(project.path) },
    stdio: 'pipe',
  });

  project.write('program.ts', PROGRAM);
  const examples = ['docs/library.md', 'README.md'].flatMap((file) => [
    ...readFileSync(join(root, file), 'utf8').matchAll(/```ts\n(.*?)```/gs),
  ]);
  for (const [i, [, code]] of examples.entries()) project.write(`example${i}.ts`, code);
  complaints = complaintsOf(project.path);
  // Where nothing was built before, this is a whole build.
}, 600_000);
afterAll(() => project.remove());

/**
 * A project with this tarball for its one dependency, and those of the tarball in the versions of the repository: a
 * release that came out today, or no network, is no matter of this test.
 */
function projectOf(tarball: string) {
  const project = { type: 'module', private: true, dependencies: { tstrain: `file:${tarball}` } };
  const { packages, ...lock } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  const { '': tstrain, ...others } = packages as Record<string, { dev?: boolean }>;
  return {
    'package.json': project,
    'package-lock.json': {
      ...lock,
      packages: {
        '': project,
        'node_modules/tstrain': { ...tstrain, devDependencies: undefined, resolved: `file:${tarball}` },
        ...Object.fromEntries(Object.entries(others).filter(([, { dev }]) => !dev)),
      },
    },
  };
}

/** With the compiler that the addon was made with: another one would make it anew. */
function environment(): NodeJS.ProcessEnv {
  return { ...process.env, CXX: project.at('hasty-g++'), XDG_CACHE_HOME: project.at('.cache') };
}

function run(name: string): { stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [`${name}.js`], {
    cwd: project.path,
    encoding: 'utf8',
    env: environment(),
  });
  expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
  return { stdout, stderr };
}

/** What PROGRAM finds with these settings. */
function trainAndResume(settings: Settings, steps: number) {
  for (const output of ['whole', 'out']) rmSync(project.at(output), { recursive: true, force: true });
  project.write('settings.json', JSON.stringify(settings));
  const { stdout, stderr } = run('program');
  expect(stderr).toBe('');
  const { refused, ends, lines } = JSON.parse(stdout);
  expect(refused).toBe('unknown key "learning_rat"; did you mean "learning_rate"?');
  expect(ends).toEqual([
    { outcome: 'finished', step: steps, model: 'whole' },
    { outcome: 'stopped_and_saved', step: 5, model: join('out', 'checkpoint-5') },
    { outcome: 'finished', step: steps, model: 'out' },
  ]);
  expect(project.bytes('out/model.safetensors').equals(project.bytes('whole/model.safetensors'))).toBe(true);
  expect(project.untimedMetrics('out')).toBe(project.untimedMetrics('whole'));
  expect(lines).toEqual(project.metrics('out'));
  return lines as { loss: number; grad_norm: number; learning_rate: number }[];
}

describe('a program outside the repository', () => {
  it('has types that check under strict, however packages are looked up', () => {
    expect(complaints).toEqual({ bundler: [], node16: [] });
  });

  it('says what builds an addon that does not load or is not there, and that builds it', () => {
    const addon = 'node_modules/tstrain/build/native/tstrain.node';
    const doctor = () => {
      const { status, stdout } = spawnSync('npx', ['tstrain', 'doctor'], {
        cwd: project.path,
        encoding: 'utf8',
        env: environment(),
      });
      return { status, stdout };
    };
    rmSync(project.at(addon));
    project.write(addon, 'of another machine');
    expect(doctor()).toEqual({
      status: 1,
      stdout: expect.stringMatching(
        /^addon +does not load: \S+tstrain\.node does not load: .+; if it was built on another machine, delete /m,
      ),
    });

    rmSync(project.at(addon));
    const missing = doctor();
    const [, command] = /tstrain\.node is missing.+`(node [^`]+)` builds it now/.exec(missing.stdout)!;
    expect({ status: missing.status, command }).toEqual({
      status: 1,
      command: 'node node_modules/tstrain/scripts/addon.mjs',
    });
    execFileSync('sh', ['-c', command], { cwd: project.path, env: environment(), stdio: 'pipe' });
    expect(doctor()).toEqual({
      status: 0,
      stdout: expect.stringMatching(/^device +cpu: the only one that can be used here$/m),
    });
  });

  it('trains, aborts and resumes, to the bytes of a run that was not stopped', () => {
    project.writeRows('rows.jsonl', randomRows(30, 31));
    const settings: Settings = {
      model_config: TINY,
      data_path: 'rows.jsonl',
      output_dir: 'out',
      num_train_epochs: 1,
      per_device_train_batch_size: 3,
      save_strategy: 'no',
    };
    trainAndResume(settings, 10);
  });

  it("runs the documentation's examples", async () => {
    const model = await writeTinyModel();
    cpSync(model, project.at('models/base'), { recursive: true });
    rmSync(model, { recursive: true });
    mkdirSync(project.at('datasets'));
    const rows = ['low', 'lower', 'new'].map((output) => ({ instruction: 'say a word', output }));
    project.write('datasets/rows.json', JSON.stringify(rows));

    const [training, using] = [run('example0'), run('example1')];
    expect(training.stdout).toBe("{ outcome: 'finished', step: 4, model: 'out/tuned' }\n");
    expect(training.stderr).toMatch(/^4\/4\nloss [\d.]+, \d+ tokens\/s\n$/m);
    expect(using.stdout.match(/^[0-2] \d+\.\d+$/gm)).toHaveLength(3);
  });
});

describeShared('a program outside the repository, beside PyTorch in float64', ['goldens/train'], () => {
  it('gets the losses of the golden, aborted and resumed', () => {
    const goldens = shared('goldens/train');
    const { spec, steps } = JSON.parse(readFileSync(join(goldens, 'traces.json'), 'utf8')).token_mean;
    const rows: { input_ids: number[]; labels: number[] }[] = JSON.parse(
      readFileSync(join(goldens, 'rows.json'), 'utf8'),
    );
    project.writeRows(
      'rows.jsonl',
      rows.map(({ input_ids, labels }) => ({ ids: input_ids, labels })),
    );
    mkdirSync(project.at('golden'));
    copyFileSync(join(goldens, 'config.json'), project.at('golden/config.json'));
    copyFileSync(join(goldens, 'init.safetensors'), project.at('golden/model.safetensors'));

    const lines = trainAndResume(
      {
        model_name_or_path: 'golden',
        data_path: 'rows.jsonl',
        output_dir: 'out',
        data_order: 'sequential',
        keep_unlabelled_rows: true,
        per_device_train_batch_size: spec.micro_batch_size,
        gradient_accumulation_steps: spec.accumulation,
        num_train_epochs: spec.epochs,
        learning_rate: spec.lr,
        weight_decay: spec.weight_decay,
        warmup_ratio: spec.warmup_ratio,
        max_grad_norm: spec.max_grad_norm,
        adam_beta1: spec.betas[0],
        adam_beta2: spec.betas[1],
        adam_epsilon: spec.eps,
        loss_normalization: spec.normalise,
        lr_scheduler_type: spec.scheduler,
        save_strategy: 'no',
      },
      spec.total_steps,
    );
    // The tolerances of engine/train/loop.test.ts, which are explained there.
    expect(lines).toHaveLength(steps.length);
    for (const [i, expected] of steps.entries()) {
      expect(Math.abs(lines[i].loss - expected.loss), `loss of step ${i + 1}`).toBeLessThanOrEqual(2e-5);
      expect(Math.abs(lines[i].grad_norm / expected.grad_norm - 1)).toBeLessThanOrEqual(2e-5);
      expect(Math.abs(lines[i].learning_rate - expected.lr)).toBeLessThanOrEqual(1e-9 * expected.lr);
    }
    const trained = readSafetensors(project.at('out/model.safetensors'));
    const expected = readSafetensors(join(goldens, 'final.token_mean.safetensors'));
    expect([...trained.keys()].sort()).toEqual([...expected.keys()].sort());
    for (const [name, { data }] of expected) {
      const own = trained.get(name)!.data;
      data.forEach((value, i) => {
        if (Math.abs(own[i] - value) > 2e-5) expect.fail(`${name}[${i}] is ${own[i]}, expected ${value}`);
      });
    }
  });
});
