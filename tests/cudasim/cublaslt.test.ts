import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildCardPrograms, buildSimulator } from './run.mjs';

// The simulated cuBLASLt refuses what the real one refuses, the engine tells what went wrong in it, and the sweep that a
// card is asked runs over it.

const here = import.meta.dirname;
const root = resolve(here, '../..');
const libraries = join(root, 'build/cudasim/lib');
const library = join(libraries, 'libcublasLt.so.12');
const scratch = mkdtempSync(join(tmpdir(), 'tstrain-cublaslt-'));
afterAll(() => rmSync(scratch, { recursive: true }));

function run(program: string, args: string[] = [], env: Record<string, string> = {}) {
  return spawnSync(join(root, 'build', program), args, {
    encoding: 'utf8',
    env: { ...process.env, LD_LIBRARY_PATH: libraries, TSTRAIN_CUDA_PATH: libraries, ...env },
  });
}

beforeAll(() => {
  buildSimulator('cublaslt_checks');
  buildCardPrograms();
}, 300_000);

const [NOT_INITIALIZED, INVALID_VALUE, NOT_SUPPORTED] = [1, 7, 15];

it('refuses each planted fault with the status of the real one, and computes what is right', () => {
  const { stdout, stderr, status } = run('cudasim/cublaslt_faults');
  expect(status, stderr).toBe(0);
  expect(stdout.trim().split('\n')).toEqual([
    'numbers: right',
    'another run: same bits',
    'another run with sums in any order: other bits',
    'none: fine',
    `columns closer than they are long: Heuristic ${INVALID_VALUE}`,
    `A not transposed: Heuristic ${INVALID_VALUE}`,
    `B transposed: Heuristic ${INVALID_VALUE}`,
    `a transposition that there is none of: Heuristic ${INVALID_VALUE}`,
    `rows and columns of D changed over: Heuristic ${INVALID_VALUE}`,
    `A of another type than B: Heuristic ${NOT_SUPPORTED}`,
    `float32 to bfloat16: Heuristic ${NOT_SUPPORTED}`,
    `C of another type than D: Heuristic ${NOT_SUPPORTED}`,
    `computing in TF32: Heuristic ${NOT_SUPPORTED}`,
    `less workspace than was promised: Matmul ${INVALID_VALUE}`,
    `no workspace: Matmul ${INVALID_VALUE}`,
    `a workspace at an odd address: Matmul ${INVALID_VALUE}`,
    `an address less aligned than was promised: Matmul ${NOT_SUPPORTED}`,
    `lines that no algorithm takes: Heuristic ${NOT_SUPPORTED}`,
    `addresses that no algorithm takes: Heuristic ${NOT_SUPPORTED}`,
    `no alpha: Matmul ${INVALID_VALUE}`,
    `no A: Matmul ${INVALID_VALUE}`,
    `C in place with lines of its own: Matmul ${INVALID_VALUE}`,
    'none: fine',
    `a destroyed description: Matmul ${INVALID_VALUE}`,
    `a destroyed layout: Heuristic ${INVALID_VALUE}`,
    `7 then a layout destroyed twice: Heuristic ${INVALID_VALUE}`,
    `no handle: Heuristic ${NOT_INITIALIZED}`,
    `an algorithm of nobody's: Matmul ${INVALID_VALUE}`,
    'none: fine',
    'a matrix that ends beyond its memory: synchronize 700',
  ]);
});

const sweep = (args: string[], env?: Record<string, string>) => run('card/gemm_sweep', args, env);

it.each([
  [
    'matmul:5',
    `cublasLtMatmul (${library}) fails with CUBLAS_STATUS_EXECUTION_FAILED; TSTRAIN_CUBLASLT=0 does without`,
  ],
  [
    'heuristic:2',
    `cublasLtMatmulAlgoGetHeuristic (${library}) fails with CUBLAS_STATUS_INTERNAL_ERROR; TSTRAIN_CUBLASLT=0 does without`,
  ],
  [
    'create:1',
    `cuBLASLt does not start: cublasLtCreate of ${library} fails with CUBLAS_STATUS_NOT_INITIALIZED`,
  ],
])('the engine tells of a failure: %s', (CUDASIM_CUBLASLT_FAIL, message) => {
  const { stderr, status } = sweep(['--tiny'], { CUDASIM_CUBLASLT_FAIL });
  expect(stderr.trim().split('\n').at(-1)).toBe(`gemm_sweep: ${message}`);
  expect(status).toBe(1);
});

it.each(['11', '12', '13'])('the engine finds version %s of the library', (major) => {
  const folder = join(scratch, major);
  mkdirSync(folder);
  symlinkSync(library, join(folder, `libcublasLt.so.${major}`));
  const { stdout, stderr } = sweep(['--tiny', '--seconds', '0'], { TSTRAIN_CUDA_PATH: folder });
  expect(stderr).toBe('');
  expect(stdout.split('\n')[0]).toContain(`cuBLASLt 12.8.4 (${folder}/libcublasLt.so.${major})`);
});

it('the engine says where it looked for the library in vain, and that it is not wanted', () => {
  const said = (env: Record<string, string>) => sweep(['--tiny'], env).stderr.trim();
  expect(said({ TSTRAIN_CUDA_PATH: '/nowhere' })).toBe(
    'gemm_sweep: cuBLASLt not found in TSTRAIN_CUDA_PATH=/nowhere',
  );
  expect(said({ TSTRAIN_CUBLASLT: '0' })).toBe('gemm_sweep: cuBLASLt not wanted (TSTRAIN_CUBLASLT=0)');
  expect(said({ CUDASIM_DEVICES: '0' })).toBe("gemm_sweep: there is no card: NVIDIA's driver finds no card");
});

it('the sweep measures each product, finds the numbers right and the bits the same, and sums up', () => {
  const file = join(scratch, 'sweep.json');
  const { stdout, stderr, status } = sweep(['--tiny', '--peak', '1', '--json', file]);
  expect(status, stderr).toBe(0);
  const { products, left_out } = JSON.parse(readFileSync(file, 'utf8'));
  // Two numbers of tokens, two models, five layers; two passes in bfloat16 and one in two types, fresh and added to.
  expect(products).toHaveLength(2 * 2 * 5 * 8);
  expect(left_out).toBe(0);
  for (const product of products) {
    // Lines of 101 elements of bfloat16 are what no algorithm takes.
    if (product.model === 'odd' && product.layer === 'head') {
      expect(product.choices).toBe(0);
      continue;
    }
    expect(product.choices).toBeGreaterThanOrEqual(1);
    expect(product).toMatchObject({ first_repeats: true, best_repeats: true });
    expect(product.error).toBeLessThanOrEqual(1);
    expect(product.best).toBeLessThan(product.choices);
  }
  const table = stdout.slice(stdout.indexOf('All products of a step'));
  expect(table.match(/^tiny +\d+ .*%$/gm)).toHaveLength(2);
  expect(table).toContain(
    '160 products, 16 without an algorithm, 0 with other bits in another run, 0 wrong\n',
  );
});

it('the sweep says what it left out', () => {
  expect(sweep(['--tiny', '--seconds', '0']).stdout).toContain('160 left out: 0 seconds were up');
  expect(sweep(['--whatever'])).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('not --whatever'),
  });
});
