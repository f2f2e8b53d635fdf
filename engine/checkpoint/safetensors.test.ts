import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UserError } from '../../errors.js';
import { readSafetensors } from '../../tests/read_safetensors.js';
import { defaultDevice } from '../device/addon.js';
import { NativeTensor } from '../device/native_tensor.js';
import { SafetensorsFile, STAGING_BYTES } from './safetensors.js';
import { writeSafetensors } from './safetensors_writer.js';
import { digestOf } from './synced_file.js';

const FIXTURES = join(import.meta.dirname, '../../tests/fixtures/checkpoint');
const bitsOf = (data: Float32Array | Int32Array) =>
  new Uint32Array(data.buffer, data.byteOffset, data.length);

let scratch = '';
let path = '';
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'tstrain-safetensors-'));
  path = join(scratch, 'x.safetensors');
});
afterEach(() => rmSync(scratch, { recursive: true }));

function prefixed(header: string): Buffer {
  const bytes = Buffer.alloc(8 + Buffer.byteLength(header));
  bytes.writeBigUInt64LE(BigInt(bytes.length - 8));
  bytes.write(header, 8);
  return bytes;
}

/** A file with this header and so many zero bytes of data. */
function writeFile(header: object | string, dataBytes: number): void {
  const json = typeof header === 'string' ? header : JSON.stringify(header);
  writeFileSync(path, Buffer.concat([prefixed(json), Buffer.alloc(dataBytes)]));
}

describe('16-bit floats', () => {
  it.each(['fp16', 'bf16'])('widen every special %s value bit by bit', (format) => {
    const values = readSafetensors(join(FIXTURES, 'half_values.safetensors'));
    const widened = bitsOf(values.get(format)!.data);
    expect(widened.length).toBeGreaterThan(0);
    expect(widened).toEqual(bitsOf(values.get(`${format}_as_f32`)!.data));
  });

  it('round to bfloat16 as torch does, when the target of a load is bfloat16', () => {
    const values = readSafetensors(join(FIXTURES, 'rounding.safetensors'));
    const target = NativeTensor.onHeap(defaultDevice(), 'bfloat16', values.get('bf16')!.shape);
    target.write(values.get('f32')!.data);
    expect(bitsOf(target.floats())).toEqual(bitsOf(values.get('bf16')!.data));
    target.dispose();
  });
});

describe('a header', () => {
  const entry = (dtype: string, shape: unknown, begin: unknown, end: unknown) => ({
    dtype,
    shape,
    data_offsets: [begin, end],
  });

  it.each([
    [
      'bytes before the first tensor',
      { a: entry('F32', [1], 4, 8) },
      8,
      'a hole between the start of the data and the data of a',
    ],
    [
      'bytes after the last tensor',
      { a: entry('F32', [1], 0, 4) },
      8,
      '4 bytes after the data of a belong to no tensor',
    ],
    [
      'a hole',
      { a: entry('F32', [1], 0, 4), b: entry('F32', [1], 8, 12) },
      12,
      'a hole between a and the data of b',
    ],
    [
      'an overlap',
      { a: entry('F32', [2], 0, 8), b: entry('F32', [2], 4, 12) },
      12,
      'the data of b overlap those of a',
    ],
    [
      'the same bytes twice',
      { a: entry('F32', [1], 0, 4), b: entry('F32', [1], 0, 4) },
      4,
      'the data of b overlap those of a',
    ],
    [
      'a shape whose size is beyond 2^53',
      { a: entry('F32', [2 ** 40, 2 ** 40], 0, 4) },
      4,
      'a is F32 [1099511627776,1099511627776], which takes',
    ],
    ['a fractional shape', { a: entry('F32', [0.5, 2], 0, 4) }, 4, 'a has the shape [0.5,2]'],
    ['a shape that is no list', { a: entry('F32', 1, 0, 4) }, 4, 'a has the shape 1'],
    ['negative offsets', { a: entry('F32', [1], -4, 0) }, 4, 'a has the data_offsets [-4,0]'],
    [
      'three offsets',
      { a: { dtype: 'F32', shape: [1], data_offsets: [0, 4, 8] } },
      4,
      'a has the data_offsets [0,4,8]',
    ],
    ['no offsets', { a: { dtype: 'F32', shape: [1] } }, 4, 'a has the data_offsets undefined'],
    [
      'a dtype every object has',
      { a: entry('toString', [1], 0, 4) },
      4,
      'a has the unknown dtype "toString"',
    ],
    ['an entry that is null', { a: null }, 0, 'the entry of a is not an object'],
    [
      'metadata that is no table of strings',
      { __metadata__: { a: 1 } },
      0,
      'its __metadata__ is not a table of strings',
    ],
    ['a list', '[]', 0, 'its header is not a JSON object'],
    ['bytes that are not UTF-8', '\u0000', 0, 'its header: not valid JSON'],
  ])('with %s is refused', (_, header, dataBytes, why) => {
    writeFile(header as object | string, dataBytes);
    const open = () => SafetensorsFile.open(path);
    expect(open).toThrow(UserError);
    expect(open).toThrow(`${path}: not a whole safetensors file: `);
    expect(open).toThrow(why);
  });

  it('may list tensors in any order, empty ones, scalars and a name like __proto__', () => {
    writeFile(
      '{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[],"data_offsets":[4,8]},' +
        '"none":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]},' +
        '"__proto__":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}   ',
      8,
    );
    const file = SafetensorsFile.open(path);
    expect([...file.tensors.keys()]).toEqual(['b', 'none', '__proto__']);
    file.close();
    expect(readSafetensors(path).get('__proto__')!.data).toEqual(Int32Array.of(0));
  });

  it('of more than 8 MiB is not even read', () => {
    const fd = openSync(path, 'w');
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(8_388_609n);
    writeSync(fd, prefix);
    ftruncateSync(fd, 200_000_000);
    closeSync(fd);
    expect(() => SafetensorsFile.open(path)).toThrow('its header should have 8388609 bytes, over 8388608');
  });
});

describe('SafetensorsFile', () => {
  it('says when the file is missing, or is a directory', () => {
    expect(() => SafetensorsFile.open(path)).toThrow(`${path}: the file is missing`);
    expect(() => SafetensorsFile.open(scratch)).toThrow(
      `${scratch}: expected a regular file, this is a directory`,
    );
  });

  it('reads tensors that lie beyond 4 GiB', async () => {
    const far = 5 * 2 ** 30;
    const header = prefixed(
      JSON.stringify({
        filler: { dtype: 'U8', shape: [far], data_offsets: [0, far] },
        last: { dtype: 'F32', shape: [2], data_offsets: [far, far + 8] },
      }),
    );
    const fd = openSync(path, 'w');
    writeSync(fd, header);
    writeSync(fd, new Float32Array([1.5, -2.25]), 0, 8, header.length + far);
    closeSync(fd);
    const file = SafetensorsFile.open(path);
    const target = NativeTensor.onHeap(defaultDevice(), 'float32', [2]);
    await file.readInto('last', target);
    expect([...target.floats()]).toEqual([1.5, -2.25]);
    target.dispose();
    file.close();
  });

  it.each([
    [Number.NaN, 'holds NaN at element'],
    [Number.NEGATIVE_INFINITY, 'holds an infinity at element'],
  ])('refuses %d and counts its element across pieces', async (value, what) => {
    const at = STAGING_BYTES / 4 + 5;
    const values = new Float32Array(at + 10);
    values[at] = value;
    const tensor = NativeTensor.from(defaultDevice(), values);
    await writeSafetensors(path, [{ name: 'w', tensor }]);
    const file = SafetensorsFile.open(path);
    await expect(file.readInto('w', tensor)).rejects.toThrow(`${path}: w ${what} ${at};`);
    file.close();
    tensor.dispose();
  });

  it('does not fill a tensor in part', async () => {
    const tensor = NativeTensor.from(defaultDevice(), new Float32Array(3));
    const target = NativeTensor.from(defaultDevice(), new Float32Array(4));
    await writeSafetensors(path, [{ name: 'w', tensor }]);
    const file = SafetensorsFile.open(path);
    await expect(file.readInto('w', target)).rejects.toThrow(`${path}: w has 3 elements, expected are 4`);
    await expect(file.readInto('v', target)).rejects.toThrow(`${path}: has no tensor v`);
    file.close();
    tensor.dispose();
    target.dispose();
  });

  it('rounds float64, and refuses one beyond float32', async () => {
    const tensor = NativeTensor.onHeap(defaultDevice(), 'float64', [2]);
    const target = NativeTensor.onHeap(defaultDevice(), 'float32', [2]);
    tensor.write(Float64Array.of(0.1, -3));
    await writeSafetensors(path, [{ name: 'w', tensor }]);
    let file = SafetensorsFile.open(path);
    await file.readInto('w', target);
    file.close();
    expect([...target.floats()]).toEqual([Math.fround(0.1), -3]);
    tensor.write(Float64Array.of(1e300, 0));
    await writeSafetensors(path, [{ name: 'w', tensor }]);
    file = SafetensorsFile.open(path);
    await expect(file.readInto('w', target)).rejects.toThrow('w holds an infinity at element 0');
    file.close();
    tensor.dispose();
    target.dispose();
  });
});

describe('writeSafetensors', () => {
  it('writes what it read, tensors longer than a piece included, with the right digest', async () => {
    const long = Float32Array.from({ length: STAGING_BYTES / 4 + 3 }, (_, i) => i);
    const tensors = [
      { name: 'ids', tensor: NativeTensor.from(defaultDevice(), Int32Array.of(1, -2, 3)) },
      { name: 'long', tensor: NativeTensor.from(defaultDevice(), long) },
      { name: 'none', tensor: NativeTensor.from(defaultDevice(), new Float32Array(0)) },
    ];
    const digest = await writeSafetensors(path, tensors);
    for (const { tensor } of tensors) tensor.dispose();
    expect(digest).toEqual(await digestOf(path));
    const back = readSafetensors(path);
    expect([...back.keys()]).toEqual(['ids', 'long', 'none']);
    expect(back.get('ids')).toEqual({ shape: [3], data: Int32Array.of(1, -2, 3) });
    expect(Buffer.compare(Buffer.from(back.get('long')!.data.buffer), Buffer.from(long.buffer))).toBe(0);
    expect(back.get('none')!.data).toHaveLength(0);
  });

  it('says format: pt, without which transformers does not open a file, and aligns the data', async () => {
    const tensor = NativeTensor.from(defaultDevice(), Float32Array.of(1));
    await writeSafetensors(path, [{ name: 'w', tensor }]);
    tensor.dispose();
    const file = SafetensorsFile.open(path);
    expect(file.tensors.get('w')!.position % 8).toBe(0);
    file.close();
    expect(readFileSync(path).length).toBe(file.tensors.get('w')!.position + 4);
  });
});
