import { readFileSync } from 'node:fs';
import { SafetensorsFile } from '../engine/checkpoint/safetensors.js';
import { widenBfloat16, widenFloat16 } from '../engine/checkpoint/widen.js';
import type { Parameters } from '../engine/model/parameters.js';

export interface HostTensor {
  shape: readonly number[];
  data: Float32Array | Int32Array;
}

/**
 * All tensors of a file of expected values: I32 as Int32Array; F32, F16, BF16 and F64 as Float32Array, with values that
 * are not finite.
 */
export function readSafetensors(path: string): Map<string, HostTensor> {
  const file = SafetensorsFile.open(path);
  const bytes = readFileSync(path);
  try {
    return new Map(
      [...file.tensors.values()].map(
        ({ name, dtype, shape, position, bytes: size }): [string, HostTensor] => {
          const values = Uint8Array.from(bytes.subarray(position, position + size)).buffer;
          const widened = (widen: typeof widenFloat16) => {
            const floats = new Float32Array(size / 2);
            widen(new Uint16Array(values), floats);
            return floats;
          };
          switch (dtype) {
            case 'I32':
              return [name, { shape, data: new Int32Array(values) }];
            case 'F32':
              return [name, { shape, data: new Float32Array(values) }];
            case 'F64':
              return [name, { shape, data: Float32Array.from(new Float64Array(values)) }];
            case 'F16':
              return [name, { shape, data: widened(widenFloat16) }];
            case 'BF16':
              return [name, { shape, data: widened(widenBfloat16) }];
            default:
              throw new Error(`${path}: ${name} is ${dtype}`);
          }
        },
      ),
    );
  } finally {
    file.close();
  }
}

/** Fills all parameters with values by their names. */
export function fill(parameters: Parameters, valuesOf: (name: string) => HostTensor | undefined): void {
  for (const { name } of parameters.entries) {
    const tensor = parameters.tensor(name);
    tensor.write(valuesOf(name)!.data as Float32Array);
    tensor.dispose();
  }
}
