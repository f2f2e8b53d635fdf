import { describe, expect, it } from 'vitest';
import { addon, defaultDevice } from './addon.js';
import { NativeTensor } from './native_tensor.js';
import { Repeat } from './repeat.js';

const device = defaultDevice();
/** The simulated card, and a real one; what each test says of called bodies holds on the others too. */
const RECORDS = device === 'cuda';
const TIMES = 5;

/** y = x², by way of a tensor in the arena. */
function square(y: NativeTensor, x: NativeTensor): void {
  const between = NativeTensor.inArena(device, 'float32', [x.size]);
  addon.ops.unary({ y: between, x, op: 'square', n: x.size });
  addon.ops.axpby({ y, x: between, n: x.size, a: 1, b: 0 });
  between.dispose();
}

/** [x, y] with room for n values. */
function pair(n: number): [NativeTensor, NativeTensor] {
  return [NativeTensor.from(device, new Float32Array(n)), NativeTensor.from(device, new Float32Array(n))];
}

/** How often the body is called when the work is done `times` times. */
const called = (times: number) => (RECORDS ? Math.min(times, 2) : times);

describe(`work that repeats, on ${device}`, () => {
  it('is called twice by a device that records, and done each time', () => {
    const repeat = new Repeat();
    const [x, y] = pair(3);
    const before = addon.stats(device);
    let calls = 0;
    for (let i = 0; i < TIMES; i++) {
      x.write(Float32Array.of(i, i + 1, i + 2));
      const wasCalled = repeat.do('square', [x, y], () => {
        calls++;
        square(y, x);
      });
      expect([...y.floats()]).toEqual([i ** 2, (i + 1) ** 2, (i + 2) ** 2]);
      expect(wasCalled).toBe(!RECORDS || i < 2);
    }
    expect(calls).toBe(called(TIMES));
    expect(addon.stats(device).arenaInUse).toBe(before.arenaInUse);
    x.dispose();
    y.dispose();
  });

  it('is called again for another key, kind, tensor, or as the device holds other memory', () => {
    const [one, other] = [new Repeat(), new Repeat()];
    const [x, y] = pair(4);
    const [x2, y2] = pair(4);
    const calls = (work: Repeat, key: string, from: NativeTensor, to: NativeTensor) => {
      let count = 0;
      for (let i = 0; i < TIMES; i++) {
        from.write(Float32Array.of(i, 2, 3, 4));
        work.do(key, [from, to], () => {
          count++;
          square(to, from);
        });
        expect([...to.floats()]).toEqual([i ** 2, 4, 9, 16]);
      }
      return count;
    };
    expect(calls(one, 'a', x, y)).toBe(called(TIMES));
    expect(calls(one, 'a', x, y)).toBe(RECORDS ? 0 : TIMES);
    expect(calls(one, 'b', x, y)).toBe(called(TIMES));
    expect(calls(other, 'a', x, y)).toBe(called(TIMES));
    expect(calls(one, 'a', x2, y2)).toBe(called(TIMES));
    expect(calls(one, 'a', x2, y)).toBe(called(TIMES));
    const held = NativeTensor.inArena(device, 'float32', [1]);
    expect(calls(one, 'a', x, y)).toBe(called(TIMES));
    held.dispose();
    expect(calls(one, 'a', x, y)).toBe(RECORDS ? 0 : TIMES);
    const long = NativeTensor.onHeap(device, 'float32', [1]);
    expect(calls(one, 'a', x, y)).toBe(called(TIMES));
    for (const t of [long, x, y, x2, y2]) t.dispose();
  });

  it('is called again when the arena has been given back', () => {
    const repeat = new Repeat();
    const [x, y] = pair(2 ** 12);
    const calls = () => {
      let count = 0;
      for (let i = 0; i < TIMES; i++)
        repeat.do('square', [x, y], () => {
          count++;
          square(y, x);
        });
      expect(y.floats().every((value) => value === 0)).toBe(true);
      return count;
    };
    calls();
    addon.resetStats(device);
    expect(calls()).toBe(called(TIMES));
    x.dispose();
    y.dispose();
  });

  it('is remembered as long as no 32 others come between', () => {
    const repeat = new Repeat();
    const [x, y] = pair(1);
    const work = (key: string) => {
      let count = 0;
      repeat.do(key, [x, y], () => {
        count++;
        square(y, x);
      });
      return count;
    };
    for (let i = 0; i < 3; i++) work('kept');
    for (let i = 0; i < 31; i++) work(`other ${i}`);
    expect(work('kept')).toBe(RECORDS ? 0 : 1);
    for (let i = 0; i < 32; i++) work(`another ${i}`);
    expect(work('kept')).toBe(1);
    x.dispose();
    y.dispose();
  });

  it.runIf(RECORDS)('is refused with what could not be done again, and can be done afterwards', () => {
    const [x, y] = pair(3);
    const kept: NativeTensor[] = [];
    const copy = () => {
      square(y, x);
      x.write(Float32Array.of(1, 2, 3));
    };
    for (const [message, body] of [
      ['a copy cannot be recorded', copy],
      ['a copy cannot be recorded', () => y.floats()],
      [
        'memory that lives long cannot be recorded',
        () => NativeTensor.onHeap(device, 'float32', [1]).dispose(),
      ],
      ['has left memory allocated', () => kept.push(NativeTensor.inArena(device, 'float32', [1]))],
      [
        'my own',
        () => {
          square(y, x);
          throw new Error('my own');
        },
      ],
    ] as [string, () => void][]) {
      const repeat = new Repeat();
      try {
        repeat.do('once', [x, y], body);
      } catch {}
      while (kept.length > 0) kept.pop()!.dispose();
      expect(() => repeat.do('once', [x, y], body)).toThrow(message);
      while (kept.length > 0) kept.pop()!.dispose();
      for (let i = 0; i < TIMES; i++) {
        x.write(Float32Array.of(i, 0, 1));
        repeat.do('once', [x, y], () => square(y, x));
        expect([...y.floats()]).toEqual([i ** 2, 0, 1]);
      }
    }
    x.dispose();
    y.dispose();
  });
});
