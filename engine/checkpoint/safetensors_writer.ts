import type { DType, FloatStore } from '../device/native_tensor.js';
import { type SafetensorsDType, STAGING_BYTES } from './safetensors.js';
import { type FileDigest, writeSynced } from './synced_file.js';

export interface NamedTensor {
  name: string;
  tensor: FloatStore;
}

const DTYPE_NAMES: Record<DType, SafetensorsDType> = {
  float32: 'F32',
  bfloat16: 'BF16',
  int32: 'I32',
  float64: 'F64',
  uint8: 'U8',
  int16: 'I16',
};

/**
 * Writes tensors as a safetensors file, each in its own storage type, in the order given and piece by piece.
 * The file is synced; its digest is made on the way. `signal` gives it up, within a piece.
 */
export function writeSafetensors(
  path: string,
  tensors: readonly NamedTensor[],
  signal?: AbortSignal,
): Promise<FileDigest> {
  return writeSynced(path, async (file) => {
    await file.append(headerOf(tensors));
    const staging = new Uint8Array(STAGING_BYTES);
    for (const { tensor } of tensors) {
      for (let done = 0; done < tensor.bytes; ) {
        const piece = staging.subarray(0, Math.min(staging.length, tensor.bytes - done));
        tensor.copyRaw(piece, done / tensor.elementBytes, 'toHost');
        signal?.throwIfAborted();
        await file.append(piece);
        done += piece.length;
      }
    }
  });
}

function headerOf(tensors: readonly NamedTensor[]): Uint8Array {
  // transformers only opens files that say so.
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let end = 0;
  for (const { name, tensor } of tensors) {
    if (Object.hasOwn(header, name)) throw new Error(`two tensors are called ${name}`);
    const begin = end;
    end += tensor.bytes;
    header[name] = { dtype: DTYPE_NAMES[tensor.dtype], shape: tensor.shape, data_offsets: [begin, end] };
  }
  const json = Buffer.from(JSON.stringify(header));
  // Blanks up to a multiple of 8 keep the data aligned for readers that map the file.
  const bytes = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
  bytes.writeBigUInt64LE(BigInt(bytes.length - 8));
  json.copy(bytes, 8);
  return bytes;
}
