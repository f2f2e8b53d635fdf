// Which of cuBLASLt's algorithms does a product is found by trying, on the simulated card: only such as give the same bits
// each time, kept on disk, and with a checkpoint, so that a run that is resumed ends in the same bytes.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { RunDirectory, randomRows } from '../tiny_run.js';
import { buildSimulator, simulated } from './run.mjs';

const root = join(import.meta.dirname, '../..');
const directory = new RunDirectory();

// Sums of 128 and more have several algorithms: here those over the rows of a micro-batch, of which more than 64 are not
// slack, so that its halves are both something.
const model = {
  vocab_size: 64,
  hidden_size: 32,
  intermediate_size: 32,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
};

beforeAll(() => {
  buildSimulator();
  directory.writeRows('rows.jsonl', randomRows(8, 1));
}, 120_000);
afterAll(() => directory.remove());

function node(command: string[], own: NodeJS.ProcessEnv): string {
  const { stdout, stderr, status } = spawnSync(process.execPath, command, {
    cwd: directory.path,
    encoding: 'utf8',
    env: { ...process.env, ...simulated(null), TSTRAIN_CUDA_TUNE: '1', ...own },
  });
  expect(status, stderr).toBe(0);
  return stdout + stderr;
}

type Algorithm = 'whole' | 'parts' | 'chance';

/** A run of four steps into `output` on a card whose fastest algorithm is `fastest`, with a cache of its own. */
function run(
  output: string,
  fastest: Algorithm,
  cache: string,
  own: NodeJS.ProcessEnv = {},
  ...args: string[]
) {
  directory.writeConfig(
    {
      model_config: model,
      device: 'cuda',
      bf16: true,
      max_steps: 4,
      per_device_train_batch_size: 8,
      save_strategy: 'steps',
      save_steps: 2,
      output_dir: output,
    },
    `${output}.yaml`,
  );
  const command = [join(root, 'dist/bin/tstrain.js'), '--config', `${output}.yaml`, ...args];
  return {
    said: node(command, { XDG_CACHE_HOME: directory.at(cache), CUDASIM_CUBLASLT_FASTEST: fastest, ...own }),
    bytes: directory.bytes(output, 'model.safetensors').toString('base64'),
    chosen: () => String(JSON.parse(directory.text(output, 'checkpoint-2/trainer_state.json')).chosen),
  };
}

/** Goes on from the checkpoint of step 2: drops what a run did after it, and what it kept on disk. */
function resume(output: string, fastest: Algorithm, own: NodeJS.ProcessEnv = {}) {
  for (const name of ['checkpoint-4', 'model.safetensors'])
    rmSync(directory.at(output, name), { recursive: true });
  return run(output, fastest, 'cache-of-the-resumed', own, '--resume');
}

const tried = /shapes tried: (\d+) in \d/;
const kept = (cache: string) =>
  readdirSync(directory.at(cache, 'tstrain/cuda')).filter((name) => name.startsWith('product-'));

it('the fastest is taken, kept on disk and with a checkpoint, and how many were tried is told', () => {
  const parts = run('parts', 'parts', 'cache-parts');
  const whole = run('whole', 'whole', 'cache-whole');
  // Otherwise nothing here would show anything.
  expect(parts.bytes).not.toBe(whole.bytes);
  expect(Number(parts.said.match(tried)![1])).toBe(kept('cache-parts').length);

  // What is faster by now does not matter to who finds a choice.
  const again = run('again', 'whole', 'cache-parts');
  expect(again.bytes).toBe(parts.bytes);
  expect(again.said).not.toMatch(tried);
  const resumed = resume('parts', 'whole');
  expect(resumed.bytes).toBe(parts.bytes);
  expect(resumed.said).not.toMatch(tried);
  expect(resumed.said).not.toContain('changed since');

  // Of another card it is of no use, and that is told.
  expect(resume('again', 'whole', { CUDASIM_ARCH: '86' }).said).toContain(
    'checkpoint-2: products were made by cuBLASLt 12.8.4 on cudasim sm_80, are made by cuBLASLt 12.8.4 on cudasim ' +
      'sm_86; the run goes on, but they may round differently\n',
  );

  // A file that is not whole is none.
  for (const name of kept('cache-parts')) {
    const file = directory.at('cache-parts/tstrain/cuda', name);
    writeFileSync(file, readFileSync(file).subarray(0, -1));
  }
  const anew = run('anew', 'whole', 'cache-parts');
  expect(anew.said).toMatch(tried);
  expect(anew.bytes).toBe(whole.bytes);
}, 600_000);

it('one that does not give the same bits each time is not taken, however fast', () => {
  const { chosen } = run('chance', 'chance', 'cache-chance');
  // The algorithm's third word is its scheme, of those by chance 258. Which of the others comes next the clock decides.
  const schemes = chosen()
    .split('\n')
    .slice(1)
    .map((line) => Number.parseInt(line.slice(32, 48), 16));
  expect(schemes).not.toEqual([]);
  expect(schemes.filter((scheme) => scheme !== 0 && scheme !== 2)).toEqual([]);
}, 300_000);

it('where the card has no memory for a try, the first choice is taken and told', () => {
  const engine = (path: string) => JSON.stringify(pathToFileURL(join(root, 'dist/engine/device', path)).href);
  // Operands of 16 MiB each and a workspace of 32, of 72 MiB.
  const program = `
    import { addon } from ${engine('addon.js')};
    import { NativeTensor } from ${engine('native_tensor.js')};
    const [m, k] = [16, 1 << 18];
    const [a, b] = [1, 2].map(() => NativeTensor.from('cuda', new Float32Array(m * k).fill(1), [m, k]));
    const c = NativeTensor.inArena('cuda', 'float32', [m, m]);
    addon.ops.gemm({ c, a, b, m, n: m, k, trans_a: false, trans_b: true });
    console.log(c.floats().every((x) => x === k), addon.account('cuda'));`;
  const said = node(['--input-type=module', '-e', program], {
    XDG_CACHE_HOME: directory.at('cache-none'),
    CUDASIM_MEMORY: String(72 << 20),
  });
  expect(said).toBe('true cuBLASLt: not tried for want of memory, so with its first choice: 1\n');
}, 120_000);
