import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { saveHfWeights } from '../../engine/checkpoint/hf_model.js';
import type { DeviceName } from '../../engine/device/addon.js';
import { Parameters, type Precision } from '../../engine/model/parameters.js';
import { finetune } from '../../recipes/finetune.js';
import { sources } from '../paths.js';
import { configOf, type ShapeName } from '../shapes.js';
import { type Document, OPTIMIZER, randomIds, type Workload } from '../workload.js';

// node dist/benchmarks/card/curves.js --device cuda --shape 110m --steps 100 --directory DIR [--python python3]: the losses
// of one model, from the same weights and on the same rows, here in bf16 and by PyTorch in bf16 (autocast) and float32. A
// line of JSON.

export interface Curves {
  ours: number[];
  torch_bf16: number[];
  torch_fp32: number[];
  /** Means over the steps of |a − b|. */
  ours_from_fp32: number;
  torch_bf16_from_fp32: number;
}

interface Options {
  device: DeviceName;
  shape: ShapeName;
  steps: number;
  rowsPerStep: number;
  length: number;
  python: string;
  /** For the model, the rows and our run. */
  directory: string;
  /** Of ours; PyTorch does both. */
  precision: Precision;
}

/** As many as small models learn at without trouble. */
const LEARNING_RATE = 3e-4;

/**
 * @throws Error when PyTorch cannot do it, with the last line it said
 */
export async function curves(options: Options): Promise<Curves> {
  const { device, shape, directory, precision } = options;
  const model = join(directory, 'model');
  mkdirSync(model, { recursive: true });
  const config = configOf(shape);
  const parameters = new Parameters(config, device, 'fp32');
  parameters.initialize(1);
  await saveHfWeights(model, config, parameters);
  parameters.dispose();

  const workload = workloadOf(options);
  const [rows, json] = ['rows.jsonl', 'workload.json'].map((name) => join(directory, name));
  writeFileSync(
    rows,
    workload.steps
      .flat()
      .map((row) => `${JSON.stringify(row)}\n`)
      .join(''),
  );
  writeFileSync(json, JSON.stringify(workload));
  const ours: number[] = [];
  await finetune(
    {
      model_name_or_path: model,
      data_path: rows,
      output_dir: join(directory, 'out'),
      device,
      bf16: precision === 'bf16',
      model_max_length: options.length,
      data_order: 'sequential',
      max_steps: options.steps,
      per_device_train_batch_size: options.rowsPerStep,
      learning_rate: LEARNING_RATE,
      lr_scheduler_type: 'constant',
      warmup_ratio: 0,
      save_strategy: 'no',
    },
    { onLog: (line) => 'loss' in line && ours.push(line.loss) },
  );
  const [torch_bf16, torch_fp32] = (['bf16', 'fp32'] as const).map((peer) => {
    const words = [join(sources, 'peer_torch.py'), json, peer, '2', '--device', device, '--losses', model];
    const { status, stdout, stderr, error } = spawnSync(options.python, words, { encoding: 'utf8' });
    if (status !== 0)
      throw new Error(`PyTorch in ${peer}: ${error?.message ?? stderr.trim().split('\n').at(-1)}`);
    return JSON.parse(stdout).losses as number[];
  });
  const off = (a: number[]) => a.reduce((sum, loss, i) => sum + Math.abs(loss - torch_fp32[i]), 0) / a.length;
  return { ours, torch_bf16, torch_fp32, ours_from_fp32: off(ours), torch_bf16_from_fp32: off(torch_bf16) };
}

/** Rows in which each id says a good deal of the next one, so that there is something to learn in a hundred steps. */
function workloadOf({ shape, steps, rowsPerStep, length }: Options): Workload {
  const config = configOf(shape);
  const words = 256;
  const document = (step: number, row: number): Document => {
    const ids: number[] = [];
    for (const random of randomIds(step, row, length, config.vocabSize))
      ids.push(3 + ((5 * (ids.at(-1) ?? random) + (random % 2)) % words));
    return { ids, labels: ids };
  };
  return {
    config: {},
    steps: Array.from({ length: steps }, (_, step) =>
      Array.from({ length: rowsPerStep }, (_, row) => document(step, row)),
    ),
    documentsPerBatch: rowsPerStep,
    states: 'float32',
    warmupSteps: 0,
    stepsPerRound: steps,
    optimizer: { ...OPTIMIZER, learning_rate: LEARNING_RATE },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      device: { type: 'string', default: 'cuda' },
      shape: { type: 'string', default: '110m' },
      steps: { type: 'string', default: '100' },
      python: { type: 'string', default: 'python3' },
      directory: { type: 'string' },
    },
  });
  const { device, shape, python, directory } = values;
  const result = await curves({
    device,
    shape: shape as ShapeName,
    steps: Number(values.steps),
    rowsPerStep: 4,
    length: shape === '260k' ? 64 : 512,
    python,
    directory: directory!,
    precision: 'bf16',
  });
  console.log(JSON.stringify(result));
}
