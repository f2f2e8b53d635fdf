import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { defaultDevice } from '../../engine/device/addon.js';
import { layoutOf } from '../../engine/model/layout.js';
import { causalLmSpecs } from '../../engine/model/specs.js';
import { UserError } from '../../errors.js';
import { checkMemory, checkModelMemory, diskUse, type Room } from '../../recipes/plan/needs.js';
import type { MemoryReport, PlanReport } from '../../recipes/plan/report.js';
import { prepareRun } from '../../recipes/prepare.js';
import { loadConfig } from '../config.js';
import { describeMeasured, describe as describePlan, planCommand } from './plan.js';

const directory = mkdtempSync(join(tmpdir(), 'tstrain-plan-'));
vi.stubEnv('XDG_CACHE_HOME', directory);
afterAll(() => rmSync(directory, { recursive: true }));
afterEach(() => {
  process.exitCode = undefined;
});

const output = join(directory, 'out');
const rows = (name: string, lengths: number[]) => {
  const file = join(directory, name);
  const row = (length: number) =>
    JSON.stringify({ ids: Array.from({ length }, (_, i) => i % 40), prompt_len: 2 });
  writeFileSync(file, lengths.map(row).join('\n'));
  return file;
};
const config = join(directory, 'run.yaml');
writeFileSync(
  config,
  `model_config:
  model_type: llama
  vocab_size: 40
  hidden_size: 32
  intermediate_size: 48
  num_hidden_layers: 2
  num_attention_heads: 4
  max_position_embeddings: 64
  tie_word_embeddings: true
data_path: ${rows('rows.jsonl', [9, 12, 25, 4, 16, 8, 20, 11, 7, 13])}
eval_data_path: ${rows('eval.jsonl', [6, 10])}
output_dir: ${output}
model_max_length: 20
num_train_epochs: 2
per_device_train_batch_size: 2
gradient_accumulation_steps: 2
save_strategy: epoch
threads: 1
`,
);

/** What the command writes of that run. */
function run(...options: string[]) {
  return outputOf('--config', config, ...options);
}

/** What it writes to standard output and standard error. */
async function outputOf(...options: string[]) {
  const written = { stdout: '', stderr: '' };
  const sink = (name: keyof typeof written) =>
    new Writable({
      write(chunk, _, done) {
        written[name] += chunk;
        done();
      },
    });
  await planCommand({ stdout: sink('stdout'), stderr: sink('stderr') })
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .parseAsync(options, { from: 'user' });
  return written;
}

async function plan(...options: string[]): Promise<PlanReport> {
  const { stdout } = await run('--json', ...options);
  expect(stdout.split('\n')).toHaveLength(2);
  return JSON.parse(stdout);
}

describe('tstrain plan --json', () => {
  it('tells all about a run, and writes nothing', async () => {
    const report = await plan();
    // 40·32 + 2·(4·32·32 + 3·32·48 + 2·32) + 32 parameters, and groups of 128: only the norms leave gaps.
    const parameters = 1280 + 2 * (4096 + 4608 + 64) + 32;
    const aligned = 1280 + 2 * (4096 + 4608) + 5 * 128;
    expect(report).toMatchObject({
      model: { parameters, precision: 'fp32', gradient_checkpointing: false },
      device: defaultDevice(),
      threads: 1,
      memory: { weights: 4 * aligned, weight_remainders: 0, gradients: 4 * aligned, moments: 8 * aligned },
      largest_eval_batch: null,
      // 10 examples, 2 a micro-batch, 2 of these a step: 3 steps an epoch.
      schedule: {
        epochs: 2,
        steps: 6,
        steps_looked_at: 6,
        warmup_steps: 1,
        micro_batches: 10,
        packing: false,
        steps_unpacked: 6,
        fill_rate: null,
      },
      tokens: { total: 240, labelled: 200, per_step: 40 },
      disk: {
        checkpoint: 12 * parameters,
        final_model: 4 * parameters,
        most: 28 * parameters,
      },
      data: {
        rows: 10,
        examples: 10,
        tokens: 120,
        label_tokens: 100,
        longest: 20,
        truncated: [{ row: 2, by: 5 }],
      },
      eval_data: null,
      measured: null,
    });
    const { arena, total, activations, workspace, ...held } = report.memory;
    expect(activations + workspace).toBe(arena);
    expect(total).toBe(Object.values(held).reduce((sum, bytes) => sum + bytes, arena));
    expect(report.machine.fits).toBe(report.machine.memory_available! >= total);
    expect(report.flops.per_step * 6).toBeCloseTo(report.flops.total, 6);
    // 6 for each weight of a matrix and token, and attention (arXiv 2001.08361, equation 2.2).
    expect(report.flops.total).toBeGreaterThan(6 * 2 * (4096 + 4608) * 240 + 6 * 1280 * 200);
    expect(existsSync(output)).toBe(false);
  });

  it.each([1e7, 1e15])('comes back for a run of %d steps', async (steps) => {
    const { schedule, tokens, flops } = await plan('--set', `max_steps=${steps}`);
    // 1,000 epochs of 3 steps and 5 micro-batches are looked at.
    expect(schedule).toMatchObject({
      steps,
      steps_looked_at: 3000,
      epochs: Math.ceil(steps / 3),
      micro_batches: Math.round((steps * 5) / 3),
    });
    expect(tokens).toMatchObject({ total: steps * 40, per_step: 40 });
    expect(flops.total / steps).toBeCloseTo((await plan()).flops.per_step, 6);
    const { stdout } = await run('--set', `max_steps=${steps}`, '--set', 'save_strategy=no');
    expect(stdout).toContain('figures are those of the first 3,000 steps, totals these times the rest\n');
  });

  it('compares packing with the recipe', async () => {
    const { schedule } = await plan('--set', 'packing=true');
    // 120 tokens in rows of 20: at least 6 rows; 2 a micro-batch, 2 of these a step.
    expect(schedule).toMatchObject({ packing: true, steps: 4, steps_unpacked: 6 });
    expect(schedule.fill_rate).toBeGreaterThan(0.8);
    expect(schedule.fill_rate).toBeLessThanOrEqual(1);
  });

  it('plans for bf16, gradient checkpointing and evaluation', async () => {
    const plain = await plan();
    const bf16 = await plan('--set', 'bf16=true');
    const { weights, gradients, moments } = plain.memory;
    expect(bf16.memory).toMatchObject({
      weights: weights / 2,
      weight_remainders: weights / 2,
      gradients,
      moments,
    });
    const narrow = await plan(
      ...['bf16=true', 'gradient_dtype=bfloat16', 'optimizer_state_dtype=bfloat16'].flatMap((set) => [
        '--set',
        set,
      ]),
    );
    expect(narrow.memory).toMatchObject({ gradients: gradients / 2, moments: moments / 2 });
    expect(narrow.disk.checkpoint).toBe((plain.disk.checkpoint * 2) / 3);
    expect(bf16.memory.activations).toBeLessThan(plain.memory.activations);
    const recomputed = await plan('--set', 'gradient_checkpointing=true');
    expect(recomputed.memory.activations).toBeLessThan(plain.memory.activations);
    expect(recomputed.flops.total).toBeGreaterThan(plain.flops.total);
    const evaluated = await plan('--set', 'eval_strategy=epoch');
    expect(evaluated.largest_eval_batch).toEqual({
      tokens: 16,
      label_tokens: 12,
      documents: 2,
      longest_document: 10,
    });
    expect(evaluated.eval_data).toMatchObject({ rows: 2 });
  });

  it.each(['false', 'true'])('--measure finds what was planned, bf16: %s', async (bf16) => {
    const report = await plan('--measure', '--set', `bf16=${bf16}`, '--set', 'eval_strategy=epoch');
    const { measured, memory } = report;
    expect(measured).toMatchObject({
      arena: memory.arena,
      arena_as_planned: true,
      resident_as_allowed: true,
      micro_batches: 10,
    });
    expect(measured!.tokens_per_second).toBeGreaterThan(0);
    expect(measured!.estimated_seconds).toBeGreaterThan(240 / measured!.tokens_per_second);
    expect(process.exitCode).toBeUndefined();
    expect(existsSync(output)).toBe(false);
  });
});

describe('tstrain plan for people', () => {
  it('prints what the data lost and what the run takes', async () => {
    const { stdout } = await run('--set', 'packing=true');
    expect(stdout).toContain('1 row (10.0 %) cut to model_max_length 20, losing 5 tokens: row 2 (by 5)');
    expect(stdout).toContain(
      'steps         4 (6 with packing: false, as in the recipe), 1 of them warm-up\n',
    );
    expect(stdout).toMatch(/^packing {7}\d+\.\d % of the rows is filled$/m);
    expect(stdout).toMatch(/^ {2}moments +0\.1 MiB$/m);
  });

  it('is loud when what was seen is not what was planned', async () => {
    const report = await plan('--measure');
    const fine = describeMeasured(report.measured!, report.memory);
    expect(fine[0]).toMatch(/^arena {9}[\d,]+ bytes at its fullest, as planned$/);
    expect(fine[1]).toContain(', within the ');
    const off = describeMeasured(
      { ...report.measured!, arena: 1234, arena_as_planned: false, resident_as_allowed: false },
      report.memory,
    );
    expect(off[0]).toMatch(/1,234 bytes at its fullest, but [\d,]+ were planned: this is a fault of tstrain/);
    expect(off[1]).toContain(', BEYOND the ');
  });

  it('leaves out what there is not', async () => {
    const lines = describePlan(await plan());
    expect(lines).toContain('steps         6, 1 of them warm-up');
    expect(lines.join('\n')).not.toMatch(/packing|bf16|evaluation/);
  });
});

describe('tstrain plan --model', () => {
  const model = join(directory, 'model');
  mkdirSync(model);
  writeFileSync(
    join(model, 'config.json'),
    JSON.stringify({
      model_type: 'llama',
      vocab_size: 32000,
      hidden_size: 2048,
      intermediate_size: 5632,
      num_hidden_layers: 22,
      num_attention_heads: 32,
      num_key_value_heads: 4,
      max_position_embeddings: 2048,
      tie_word_embeddings: false,
    }),
  );
  /** Neither weights, data nor a card. */
  const rows = (...options: string[]) =>
    outputOf('--model', model, '--device', 'cuda', '--batch', '8', '--length', '512', ...options);

  it('plans full rows for a card that is not there, from config.json alone', async () => {
    const report: MemoryReport = JSON.parse((await rows('--json', '--set', 'bf16=true')).stdout);
    const { parameters } = report.model;
    expect(parameters).toBe(1_100_048_384);
    expect(report).toMatchObject({
      device: 'cuda',
      largest_micro_batch: { tokens: 4096, label_tokens: 4088, documents: 8, longest_document: 512 },
      cards: [24, 40, 48, 80, 96, 141].map((gigabytes) => ({ gigabytes })),
      lora: { rank: 16 },
    });
    const { arena, total, activations, workspace, ...held } = report.memory;
    expect(total).toBe(Object.values(held).reduce((sum, bytes) => sum + bytes, arena));
    // Of a frozen model 2 bytes a parameter and the adapters are left, and the step's tensors.
    expect(report.lora!.total).toBeLessThan(2.5 * parameters + arena * 1.5);
    for (const { room, fits, saving } of report.cards) {
      expect(fits).toBe(total <= room);
      expect(fits || saving === null || saving.total <= room).toBe(true);
    }
    // Every step more room takes fewer changes.
    expect(report.cards[5]).toMatchObject({ fits: true, saving: null });
    const file = await outputOf('--model', join(model, 'config.json'), '--device', 'cuda', '--json');
    expect(JSON.parse(file.stdout).model.parameters).toBe(parameters);
  });

  it('says on which cards it fits, and with which settings where it does not', async () => {
    const { stdout } = await rows('--batch', '64', '--set', 'bf16=true');
    expect(stdout).toMatch(/^model +1,100,048,384 parameters in bf16, on cuda$/m);
    expect(stdout).toMatch(/^ {2}with LoRA of rank 16 alone +[\d,.]+ MiB$/m);
    expect(stdout).toMatch(/^ {2}24 GB +22\.5 GiB {2}(does not fit|with per_device)/m);
    expect(stdout).toMatch(
      /^ {2}40 GB +38\.3 GiB {2}with per_device_train_batch_size: \d+, gradient_accumulation_steps: \d+ \([\d.]+ GiB\)$/m,
    );
    expect(stdout).toMatch(/^ {2}141 GB +138\.7 GiB {2}fits$/m);
    expect(stdout).not.toContain('available');
  });

  it('tells of the CPU what there is, and no cards', async () => {
    const { stdout } = await outputOf('--model', model, '--device', 'cpu', '--batch', '1');
    expect(stdout).toMatch(/^ {2}available \(of /m);
    expect(stdout).not.toContain('cards');
  });

  it('warns of what the machine has no room for, with what takes less', async () => {
    // 7 TB, of which the tensors of a step are the least part.
    const sizes = { hidden_size: 32768, intermediate_size: 114688, num_hidden_layers: 32 };
    const huge = join(directory, 'huge');
    mkdirSync(huge);
    writeFileSync(
      join(huge, 'config.json'),
      JSON.stringify({ ...JSON.parse(readFileSync(join(model, 'config.json'), 'utf8')), ...sizes }),
    );
    const options = ['--device', 'cpu', '--batch', '8', '--length', '512', '--json'];
    const { stdout, stderr } = await outputOf('--model', huge, ...options);
    const { machine, memory }: MemoryReport = JSON.parse(stdout);
    expect(machine).toMatchObject({ fits: false, savings: expect.any(Array) });
    for (const { total } of machine.savings!) expect(total).toBeLessThan(memory.total);
    expect(stderr).toMatch(
      /^warning: this run takes [\d.]+ GiB of memory, and .* are available: the run will swap or be killed; less is taken, in all, with per_device_train_batch_size: \d+, gradient_accumulation_steps: \d+ \([\d.]+ GiB\); or gradient_checkpointing: true \(.*\n$/,
    );
  });

  it('refuses to measure without data', async () => {
    await expect(rows('--measure')).rejects.toThrow('--measure needs data_path: it trains on the data');
  });

  it('holds a run with data against cards too', async () => {
    const report = await plan('--device', 'cuda');
    expect(report.machine).toMatchObject({ memory_total: expect.toBeOneOf([null, expect.any(Number)]) });
    expect(report.cards.every(({ fits, saving }) => fits && saving === null)).toBe(true);
    expect(report.schedule.steps).toBe(6);
  });
});

describe('a run that is too large', () => {
  const prepared = prepareRun(loadConfig(config), () => {});
  const memory = (available: number) => ({ total: 2 ** 31, available, limited: false, swap: 0, own: false });

  const room = (available: number, others: Partial<Room> = {}): Room => ({
    memory: memory(available),
    arena: Number.POSITIVE_INFINITY,
    addresses: Number.POSITIVE_INFINITY,
    onHost: Number.POSITIVE_INFINITY,
    ...others,
  });
  const fault =
    /^this run takes 0\.0 GiB of memory, and 0\.0 GiB of 2\.0 GiB are available: the run will swap or be killed; less is taken, in all, with /;

  it('is refused, unless it insists or there is swap: then it is warned of', async () => {
    const run = await prepared;
    expect(await checkMemory(run, room(2 ** 31))).toBeUndefined();
    await expect(checkMemory(run, room(1024))).rejects.toThrow(UserError);
    await expect(checkMemory(run, room(1024))).rejects.toThrow(fault);
    await expect(checkMemory(run, room(1024))).rejects.toThrow(
      /; --set skip_memory_check=true starts it all the same$/,
    );
    const warning = (await checkMemory(run, room(0, { memory: { ...memory(1024), swap: 2 ** 31 } })))!;
    expect(warning.replace('warning: ', '')).toMatch(fault);
    const insisting = { ...run, config: { ...run.config, skip_memory_check: true } };
    expect(await checkMemory(insisting, room(1024))).toBe(warning);
  });

  it('is refused by what a device has of its own, without swap', async () => {
    const run = await prepared;
    await expect(checkMemory(run, room(0, { memory: { ...memory(1024), own: true } }))).rejects.toThrow(
      /^this run takes 0\.0 GiB of memory, and 0\.0 GiB of the device's 2\.0 GiB are available: the run will run out of memory/,
    );
  });

  it('is refused where `ulimit -v` leaves too few addresses, for its arena or beside it', async () => {
    const run = await prepared;
    for (const few of [{ arena: 1024, addresses: 2 ** 40 }, { addresses: 1024 }])
      await expect(checkMemory(run, room(2 ** 31, few))).rejects.toThrow(
        /^this run takes .* and `ulimit -v` leaves .* of addresses; raise it; --set skip_memory_check=true/,
      );
  });

  it('is refused for its model alone, before there are data, by what the plan counts', async () => {
    const { config, model } = await prepared;
    const size = layoutOf(causalLmSpecs(model)).trainableSize;
    const kept =
      /^weights, gradients and the optimizer's moments, whatever the batch, take 0\.0 GiB of memory, and /;
    const narrow = {
      bf16: true,
      gradient_dtype: 'bfloat16' as const,
      optimizer_state_dtype: 'bfloat16' as const,
    };
    const all = [
      [{}, 16],
      [{ bf16: true }, 16],
      [narrow, 10],
    ] as const;
    for (const [settings, bytes] of all) {
      const run = { ...config, ...settings };
      await expect(checkModelMemory(model, run, room(bytes * size - 1))).rejects.toThrow(kept);
      await checkModelMemory(model, run, room(bytes * size));
    }
    // What would be enough is told by what is then taken, and nothing that changes activations alone.
    const mib = (bytes: number) => `${((bytes * size) / 2 ** 20).toFixed(1)} MiB`;
    await expect(checkModelMemory(model, config, room(10 * size))).rejects.toThrow(
      `are available: the run will swap or be killed; less is taken, in all, with optimizer_state_dtype: bfloat16, ` +
        `gradient_dtype: bfloat16, bf16: true (${mib(10)}); --set`,
    );
    await expect(checkModelMemory(model, { ...config, ...narrow }, room(1024))).rejects.toThrow(
      'the run will swap or be killed; no setting takes less; a smaller model does; --set',
    );
  });

  it('needs room on the disk for its checkpoints, one aside, and the final model', async () => {
    const run = await prepared;
    const weights = 4 * (1280 + 2 * (4096 + 4608 + 64) + 32);
    const most = (
      saveEvery: number | 'epoch' | 'no',
      limit?: number,
      onDisk?: Parameters<typeof diskUse>[1],
    ) =>
      diskUse(
        {
          ...run,
          config: { ...run.config, save_total_limit: limit },
          training: { ...run.training, saveEvery },
        },
        onDisk,
      ).most / weights;
    expect(most('no')).toBe(1);
    expect(most('epoch')).toBe(1 + 3 * 2);
    expect(most(1)).toBe(1 + 3 * 6);
    expect(most(1, 2)).toBe(1 + 3 * 3);
    expect(most(4)).toBe(1 + 3 * 1);
    // A resumed run's checkpoints are on the disk already.
    const onDisk = { stepsDone: 3, checkpoints: 2, holdsModel: false };
    expect(most(1, 2, onDisk)).toBe(1 + 3 * 1);
    expect(most(2, undefined, onDisk)).toBe(1 + 3 * 2);
    expect(most('epoch', undefined, onDisk)).toBe(1 + 3 * 1);
    // What is there beyond the limit is removed after the next one is written.
    expect(most(1, 2, { ...onDisk, checkpoints: 3, holdsModel: true })).toBe(3);
  });
});

describe('tstrain plan refuses', () => {
  it.each([
    ['an unknown key', ['--set', 'packin=true'], /unknown key "packin"; did you mean "packing"\?$/],
    ['a device that is not there', ['--set', 'device=tpu'], /device: "tpu" is not in this build/],
    ['data that is not there', ['--set', 'data_path=nowhere.jsonl'], /nowhere\.jsonl/],
  ])('%s', async (_, options, message) => {
    const error: unknown = await run(...options).catch((reason) => reason);
    expect(error).toBeInstanceOf(UserError);
    expect((error as Error).message).toMatch(message);
  });

  it('to start without a run or a model', async () => {
    const command = planCommand()
      .exitOverride()
      .configureOutput({ writeErr: () => {} });
    await expect(command.parseAsync([], { from: 'user' })).rejects.toThrow(
      'plan takes --config FILE, a run, or --model DIR, full rows for a model',
    );
  });
});
