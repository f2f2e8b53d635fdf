import { isAbsolute, join, relative } from 'node:path';
import { UserError } from '../../errors.js';
import { exists, readRegular } from '../../files.js';
import type { NativeTensor } from '../device/native_tensor.js';
import { type LlamaConfig, renderHfConfig } from '../model/config.js';
import { EMBEDDING, HEAD } from '../model/specs.js';
import { SafetensorsFile } from './safetensors.js';
import { writeSafetensors } from './safetensors_writer.js';
import { type FileDigest, writeJson, writeSynced } from './synced_file.js';

/** Parameters by their Hugging Face names; the layout of a model, or any other set of float tensors. */
export interface WeightSet {
  entries: readonly { name: string; shape: readonly number[] }[];
  /** A view of its own, disposed by the caller: float32, or bfloat16 of what is kept in that alone. */
  tensor(name: string): NativeTensor;
}

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/** Buffers that old versions of transformers saved; they follow from the config. */
const IGNORED = /\.rotary_emb\.inv_freq$/;

/** What Hugging Face's save_pretrained splits at (transformers 4). */
const MAX_SHARD_BYTES = 5e9;

/**
 * Reads the weights of a Hugging Face directory (`model.safetensors`, or shards with an index) into `target`.
 * Every name and shape is checked before the first value is read. A tied model may come with its
 * `lm_head.weight`, if that equals the embedding.
 * @returns the names of tensors that the model has no use for.
 * @throws UserError naming file and tensor: missing, of another shape, not floating point, not finite, or an
 * index that points outside the directory.
 */
export async function loadHfWeights(
  directory: string,
  config: LlamaConfig,
  target: WeightSet,
): Promise<string[]> {
  const files = new Map<string, SafetensorsFile>();
  try {
    const home = openModel(directory, files);
    for (const { name, shape } of target.entries) requireTensor(directory, home, name, shape, config);
    const tiedHead = config.tieWordEmbeddings && home.has(HEAD);
    if (tiedHead) requireTensor(directory, home, HEAD, [config.vocabSize, config.hiddenSize], config);

    for (const { name } of target.entries) {
      const tensor = target.tensor(name);
      try {
        await home.get(name)!.readInto(name, tensor);
      } finally {
        tensor.dispose();
      }
    }
    if (tiedHead) await requireHeadIsEmbedding(home.get(HEAD)!, target);

    const expected = new Set(target.entries.map((entry) => entry.name));
    if (tiedHead) expected.add(HEAD);
    return [...files.values()]
      .flatMap((file) => [...file.tensors.keys()])
      .filter((name) => !expected.has(name) && !IGNORED.test(name));
  } finally {
    for (const file of files.values()) file.close();
  }
}

/**
 * Writes `config.json` and the float32 weights of `source` into `directory`: `model.safetensors`, or above
 * `maxShardBytes` shards with their index. `signal` gives it up, within a file.
 * @returns the digests of the files written; all are synced.
 */
export async function saveHfWeights(
  directory: string,
  config: LlamaConfig,
  source: WeightSet,
  { maxShardBytes = MAX_SHARD_BYTES, signal }: { maxShardBytes?: number; signal?: AbortSignal } = {},
): Promise<FileDigest[]> {
  const text = Buffer.from(renderHfConfig(config));
  const digests = [await writeSynced(join(directory, 'config.json'), (file) => file.append(text))];
  const tensors = source.entries.map(({ name }) => ({ name, tensor: source.tensor(name) }));
  try {
    const shards = [[tensors[0]]];
    let shardBytes = tensors[0].tensor.bytes;
    for (const named of tensors.slice(1)) {
      if (shardBytes + named.tensor.bytes > maxShardBytes) {
        shards.push([]);
        shardBytes = 0;
      }
      shards.at(-1)!.push(named);
      shardBytes += named.tensor.bytes;
    }
    if (shards.length === 1) {
      digests.push(await writeSafetensors(join(directory, SINGLE), tensors, signal));
      return digests;
    }
    const weightMap: Record<string, string> = {};
    const number = (n: number) => String(n).padStart(5, '0');
    for (const [i, shard] of shards.entries()) {
      const file = `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
      for (const { name } of shard) weightMap[name] = file;
      digests.push(await writeSafetensors(join(directory, file), shard, signal));
    }
    const totalSize = tensors.reduce((sum, { tensor }) => sum + tensor.bytes, 0);
    digests.push(
      await writeJson(join(directory, INDEX), {
        metadata: { total_size: totalSize },
        weight_map: weightMap,
      }),
    );
    return digests;
  } finally {
    for (const { tensor } of tensors) tensor.dispose();
  }
}

/** Opens the files of a model into `files`, and says which of them holds each tensor. */
function openModel(directory: string, files: Map<string, SafetensorsFile>): Map<string, SafetensorsFile> {
  const open = (name: string) => {
    const file = files.get(name) ?? SafetensorsFile.open(join(directory, name));
    files.set(name, file);
    return file;
  };
  if (exists(join(directory, SINGLE))) {
    const file = open(SINGLE);
    return new Map([...file.tensors.keys()].map((name) => [name, file]));
  }
  if (!exists(join(directory, INDEX)))
    throw new UserError(
      `${directory}: has neither ${SINGLE} nor ${INDEX}; weights are read from safetensors files only`,
    );
  const home = new Map<string, SafetensorsFile>();
  for (const [name, shard] of Object.entries(readWeightMap(directory))) {
    const file = open(shard);
    if (!file.tensors.has(name))
      throw new UserError(`${file.path}: has no tensor ${name}, though ${INDEX} says so`);
    home.set(name, file);
  }
  return home;
}

/** Tensor → file name, each within the directory. */
function readWeightMap(directory: string): Record<string, string> {
  const path = join(directory, INDEX);
  const text = readRegular(path).toString();
  let json: { weight_map?: unknown } | null;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UserError(`${path}: not JSON: ${(error as Error).message}`);
  }
  const map = json?.weight_map;
  if (typeof map !== 'object' || map === null || Array.isArray(map))
    throw new UserError(`${path}: weight_map must be an object from tensor names to file names`);
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== 'string')
      throw new UserError(
        `${path}: weight_map puts ${name} in ${JSON.stringify(shard)}; it must be a file name`,
      );
    const within = relative(directory, join(directory, shard));
    if (isAbsolute(shard) || within === '' || within.startsWith('..'))
      throw new UserError(`${path}: weight_map puts ${name} in ${shard}, which is outside the directory`);
    if (!exists(join(directory, shard)))
      throw new UserError(`${join(directory, shard)}: the file is missing; ${INDEX} puts ${name} in it`);
  }
  return map as Record<string, string>;
}

function requireTensor(
  directory: string,
  home: ReadonlyMap<string, SafetensorsFile>,
  name: string,
  shape: readonly number[],
  config: LlamaConfig,
): void {
  const file = home.get(name);
  if (!file) {
    const why = name === HEAD && !config.tieWordEmbeddings ? '; tie_word_embeddings is false' : '';
    throw new UserError(`${directory}: the weights have no tensor ${name}${why}`);
  }
  const found = file.tensors.get(name)!.shape;
  if (found.length !== shape.length || found.some((n, i) => n !== shape[i]))
    throw new UserError(
      `${file.path}: ${name} has shape [${found.join(', ')}], config.json asks for [${shape.join(', ')}]`,
    );
}

async function requireHeadIsEmbedding(file: SafetensorsFile, target: WeightSet): Promise<void> {
  const embedding = target.tensor(EMBEDDING);
  try {
    await file.readFloats(HEAD, (values, elementOffset) => {
      const part = embedding.view([values.length], elementOffset);
      const expected = part.floats();
      // A frozen embedding in bfloat16 holds the rounded values.
      if (part.dtype === 'bfloat16') {
        const rounded = part.like();
        rounded.write(values);
        values = rounded.floats();
        rounded.dispose();
      }
      part.dispose();
      if (values.some((value, i) => value !== expected[i]))
        throw new UserError(
          `${file.path}: ${HEAD} differs from ${EMBEDDING} although tie_word_embeddings is true; ` +
            'set it to false in config.json if the head has weights of its own',
        );
    });
  } finally {
    embedding.dispose();
  }
}
