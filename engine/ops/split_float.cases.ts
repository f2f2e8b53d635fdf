import { expect, it } from 'vitest';
import {
  bytesOf,
  empty,
  expectSameBytes,
  itRefuses,
  normal,
  type OpCases,
  Random,
  tensor,
  valuesOf,
  withThreads,
} from '../../tests/op_cases.js';
import type { DeviceName } from '../device/addon.js';
import { joinFloat, splitFloat } from './split_float.js';

/** Every sign and exponent (denormals, infinity and NaN among them) with the ends of the fraction, and all around a tie. */
function patterns(): Uint32Array {
  const fractions = [0, 1, 0x3f, 0x40, 0x7e, 0x7f];
  const lows = [0, 1, 2, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0x8002, 0xfffe, 0xffff];
  const bits: number[] = [];
  for (let exponent = 0; exponent < 512; exponent++)
    for (const fraction of fractions)
      for (const low of lows) bits.push(((exponent << 23) | (fraction << 16) | low) >>> 0);
  return Uint32Array.from(bits);
}

const isNaN32 = (bits: number) => (bits & 0x7fff_ffff) > 0x7f80_0000;

function split(device: DeviceName, bits: Uint32Array) {
  const n = bits.length;
  const x = empty(device, 'float32', [n]);
  x.copyRaw(new Uint8Array(bits.buffer), 0, 'toDevice');
  const [high, low, again] = [
    empty(device, 'bfloat16', [n]),
    empty(device, 'int16', [n]),
    empty(device, 'float32', [n]),
  ];
  splitFloat(high, low, x);
  joinFloat(again, high, low);
  return {
    x,
    high,
    low,
    again,
    highBits: new Uint16Array(bytesOf(high).buffer),
    againBits: new Uint32Array(bytesOf(again).buffer),
  };
}

export const cases: OpCases = (device) => {
  it('the upper half is the nearest bfloat16, ties away from zero, and both give the float32 again', () => {
    const bits = patterns();
    const { highBits, againBits } = split(device, bits);
    // A half unit more, and cut: sign and size lie apart, so that this goes away from zero.
    const nearest = (b: number) => (isNaN32(b) ? (b >>> 16) | 0x40 : (b + 0x8000) >>> 16);
    expect([...highBits]).toEqual([...bits].map(nearest));
    for (let i = 0; i < bits.length; i++) {
      if (isNaN32(bits[i]) ? isNaN32(againBits[i]) : againBits[i] === bits[i]) continue;
      expect.fail(`0x${bits[i].toString(16)} comes back as 0x${againBits[i].toString(16)}`);
    }
  });

  it.each([
    ['a tie', 0x3f80_8000, 0x3f81],
    ['a tie between an odd and an even one', 0x3f81_8000, 0x3f82],
    ['a negative tie', 0xbf80_8000, 0xbf81],
    ['0', 0, 0],
    ['−0', 0x8000_0000, 0x8000],
    ['the smallest number', 1, 0],
    ['a denormal that becomes the smallest of bfloat16', 0x8000, 1],
    ['the largest number, beyond all of bfloat16', 0x7f7f_ffff, 0x7f80],
    ['−∞', 0xff80_0000, 0xff80],
    ['a NaN that would round to −0', 0x7fff_ffff, 0x7fff],
    ['a NaN that would be cut to ∞', 0x7f80_0001, 0x7fc0],
  ])('%s', (_, bits, high) => {
    const { highBits, againBits } = split(device, Uint32Array.of(bits));
    expect(highBits[0]).toBe(high);
    if (isNaN32(bits)) expect(isNaN32(againBits[0])).toBe(true);
    else expect(againBits[0]).toBe(bits);
  });

  it.each([1, 3, 17, 4097, 20001])('%i numbers, with or without the lower half, on any threads', (n) => {
    const x = normal(device, 'float32', new Random(n), [n]);
    const { high, low, again } = split(device, new Uint32Array(bytesOf(x).buffer));
    expectSameBytes(again, x, 'joined');
    // Without a tie among them it is the rounding of a cast.
    expectSameBytes(high, tensor(device, 'bfloat16', valuesOf(x)), 'high');
    const [alone, others, lows] = [
      empty(device, 'bfloat16', [n]),
      empty(device, 'bfloat16', [n]),
      empty(device, 'int16', [n]),
    ];
    splitFloat(alone, undefined, x);
    expectSameBytes(alone, high, 'high alone');
    withThreads(3, () => splitFloat(others, lows, x));
    expectSameBytes(others, high, 'high with three threads');
    expectSameBytes(lows, low, 'low with three threads');
  });

  itRefuses('halves of other sizes', device, 'splitFloat: high [2], low [3] and x [2] differ in size', (d) =>
    splitFloat(empty(d, 'bfloat16', [2]), empty(d, 'int16', [3]), empty(d, 'float32', [2])),
  );
  itRefuses(
    'a lower half that is a number',
    device,
    'join_float: low is bfloat16, which it may not be',
    (d) => {
      const high = empty(d, 'bfloat16', [2]);
      joinFloat(empty(d, 'float32', [2]), high, high);
    },
  );
};
