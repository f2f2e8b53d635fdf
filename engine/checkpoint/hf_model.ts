import { isAbsolute, join, relative } from 'node:path';
import { asJson, UserError } from '../../errors.js';
import { exists, parseJson, readRegular } from '../../files.js';
import type { FloatStore } from '../device/native_tensor.js';
import { type LlamaConfig, renderHfConfig } from '../model/config.js';
import { causalLmSpecs, EMBEDDING, HEAD } from '../model/specs.js';
import { SafetensorsFile } from './safetensors.js';
import { writeSafetensors } from './safetensors_writer.js';
import { type FileDigest, writeJson, writeSynced } from './synced_file.js';

/** Parameters by their Hugging Face names; the layout of a model, or any other set of float tensors. */
export interface WeightSet {
  entries: readonly { name: string; shape: readonly number[] }[];
  /** A view of its own, disposed by the caller: float32, or bfloat16 of what is kept in that alone. */
  tensor(name: string): FloatStore;
}

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/** Buffers that old versions of transformers saved; they follow from the config. */
const IGNORED = /(^|\.)rotary_emb\.inv_freq$/;

/** What the names of a trunk's parameters begin with, but for those saved as transformers' LlamaModel. */
const TRUNK = 'model.';

/** Of all files together: those of the largest LLaMA have 0.2 MB, and what they list is kept in memory. */
const MOST_HEADER_BYTES = 16 * 2 ** 20;

/** What Hugging Face's save_pretrained splits at (transformers 4). */
const MAX_SHARD_BYTES = 5e9;

/** What else there is to say of files that a model was read from. */
export interface LoadReport {
  /** The names of tensors that the model has no use for. */
  unused: string[];
  /** A line for each thing that is stored in another way than a model's files are today, to the same result. */
  notes: string[];
}

/**
 * Reads the weights of a Hugging Face directory (`model.safetensors`, or shards with an index) into `target`.
 * Every name and shape is checked before the first value is read. As in transformers, a tied model may come with its
 * `lm_head.weight`, if that equals the embedding, or with that alone; names may lack `model.`; and an index need not
 * be right about tensors that the model has no use for.
 * @throws UserError naming file and tensor: missing, of another shape, not floating point, not finite, or an
 * index that points outside the directory.
 */
export async function loadHfWeights(
  directory: string,
  config: LlamaConfig,
  target: WeightSet,
): Promise<LoadReport> {
  const { files, home, report } = findWeights(directory, config, target.entries);
  try {
    for (const { name } of target.entries) {
      const { file, stored } = home.get(name)!;
      const tensor = target.tensor(name);
      try {
        await file.readInto(stored, tensor);
      } finally {
        tensor.dispose();
      }
    }
    const head = config.tieWordEmbeddings ? home.get(HEAD) : undefined;
    if (head && home.get(EMBEDDING) !== head) await requireHeadIsEmbedding(head, target);
    return report;
  } finally {
    for (const file of files) file.close();
  }
}

/**
 * Whether {@link loadHfWeights} would find every tensor in its shape: a look at the headers, before anything is
 * allocated for a model that files only claim to be.
 * @throws UserError as loadHfWeights does before the first value
 */
export function checkHfWeights(directory: string, config: LlamaConfig): void {
  const { files } = findWeights(directory, config, causalLmSpecs(config).flat());
  for (const file of files) file.close();
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

/** A tensor, and the name it has in its file. */
interface Stored {
  file: SafetensorsFile;
  stored: string;
}

/** Opens a model's files, to be closed by the caller, and finds each entry in them, of the right shape. */
function findWeights(
  directory: string,
  config: LlamaConfig,
  entries: WeightSet['entries'],
): { files: SafetensorsFile[]; home: ReadonlyMap<string, Stored>; report: LoadReport } {
  const files = new Map<string, SafetensorsFile>();
  const notes: string[] = [];
  try {
    const needed = new Set(entries.map(({ name }) => name));
    const home = openModel(directory, files, needed, notes);
    for (const { name, shape } of entries) requireTensor(directory, home, name, shape, config);
    if (config.tieWordEmbeddings && home.has(HEAD)) {
      requireTensor(directory, home, HEAD, [config.vocabSize, config.hiddenSize], config);
      needed.add(HEAD);
    }
    const unused = [...home.keys()].filter((name) => !needed.has(name) && !IGNORED.test(name));
    return { files: [...files.values()], home, report: { unused, notes } };
  } catch (error) {
    for (const file of files.values()) file.close();
    throw error;
  }
}

/** Opens the files of a model into `files`, and says which of them holds each tensor, by the model's names. */
function openModel(
  directory: string,
  files: Map<string, SafetensorsFile>,
  needed: ReadonlySet<string>,
  notes: string[],
): Map<string, Stored> {
  let headerBytes = 0;
  const open = (name: string) => {
    const opened = files.get(name);
    if (opened) return opened;
    const file = SafetensorsFile.open(join(directory, name));
    files.set(name, file);
    headerBytes += file.headerBytes;
    if (headerBytes > MOST_HEADER_BYTES)
      throw new UserError(
        `${directory}: the headers of its safetensors files have more than ${MOST_HEADER_BYTES} bytes together; ` +
          'no LLaMA has so many tensors',
      );
    return file;
  };
  const home = new Map<string, Stored>();
  const absent: string[] = [];
  if (exists(join(directory, SINGLE))) {
    open(SINGLE);
  } else {
    if (!exists(join(directory, INDEX)))
      throw new UserError(
        `${directory}: has neither ${SINGLE} nor ${INDEX}; weights are read from safetensors files only`,
      );
    for (const [name, shard] of readWeightMap(directory)) {
      const file = open(shard);
      if (file.tensors.has(name)) home.set(name, { file, stored: name });
      else if (needed.has(name) || needed.has(TRUNK + name))
        throw new UserError(`${file.path}: has no tensor ${name}, though ${INDEX} says so`);
      else absent.push(name);
    }
  }
  // transformers reads whole shards, whatever the index leaves out.
  for (const file of files.values())
    for (const stored of file.tensors.keys()) if (!home.has(stored)) home.set(stored, { file, stored });
  if (absent.length > 0)
    notes.push(
      `${join(directory, INDEX)}: puts ${absent.length} tensors in shards that do not have them, such as ` +
        `${absent[0]}; the model needs none of them`,
    );
  return asNamedToday(directory, home, needed, notes);
}

/** The same with the names that the model has for what is stored otherwise, to the same result in transformers. */
function asNamedToday(
  directory: string,
  home: Map<string, Stored>,
  needed: ReadonlySet<string>,
  notes: string[],
): Map<string, Stored> {
  const bare = EMBEDDING.slice(TRUNK.length);
  if (home.has(bare) && ![...home.keys()].some((name) => name.startsWith(TRUNK))) {
    notes.push(`${directory}: names of tensors lack "${TRUNK}", as LlamaModel saves them; read as with it`);
    home = new Map(
      [...home].map(([name, at]) => [needed.has(TRUNK + name) ? TRUNK + name : name, at] as const),
    );
  }
  const head = home.get(HEAD);
  if (head && !needed.has(HEAD) && needed.has(EMBEDDING) && !home.has(EMBEDDING)) {
    notes.push(`${directory}: has ${HEAD} alone, which is ${EMBEDDING} too, for they are tied`);
    home.set(EMBEDDING, head);
  }
  return home;
}

/** Tensor → file name, each within the directory. */
function readWeightMap(directory: string): [name: string, shard: string][] {
  const path = join(directory, INDEX);
  const json = parseJson(readRegular(path), path) as { weight_map?: unknown } | null;
  const map = json?.weight_map;
  if (typeof map !== 'object' || map === null || Array.isArray(map))
    throw new UserError(`${path}: weight_map must be an object from tensor names to file names`);
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== 'string')
      throw new UserError(`${path}: weight_map puts ${name} in ${asJson(shard)}; it must be a file name`);
    const within = relative(directory, join(directory, shard));
    if (isAbsolute(shard) || within === '' || within.startsWith('..'))
      throw new UserError(`${path}: weight_map puts ${name} in ${shard}, which is outside the directory`);
    if (!exists(join(directory, shard)))
      throw new UserError(`${join(directory, shard)}: the file is missing; ${INDEX} puts ${name} in it`);
  }
  return Object.entries(map);
}

function requireTensor(
  directory: string,
  home: ReadonlyMap<string, Stored>,
  name: string,
  shape: readonly number[],
  config: LlamaConfig,
): void {
  const found = home.get(name);
  if (!found) {
    const why = name === HEAD && !config.tieWordEmbeddings ? '; tie_word_embeddings is false' : '';
    throw new UserError(`${directory}: the weights have no tensor ${name}${why}`);
  }
  const { file, stored } = found;
  const is = file.tensors.get(stored)!.shape;
  if (is.length !== shape.length || is.some((n, i) => n !== shape[i]))
    throw new UserError(
      `${file.path}: ${stored} has shape [${is.join(', ')}], config.json asks for [${shape.join(', ')}]`,
    );
}

async function requireHeadIsEmbedding({ file, stored }: Stored, target: WeightSet): Promise<void> {
  const embedding = target.tensor(EMBEDDING);
  try {
    await file.readFloats(stored, (values, elementOffset) => {
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
