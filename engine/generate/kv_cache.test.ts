import { describe, expect, it } from 'vitest';
import { Random } from '../../tests/op_cases.js';
import { addon, defaultDevice } from '../device/addon.js';
import { type NativeTensor, release } from '../device/native_tensor.js';
import { KvCache, type Region } from './kv_cache.js';

const WIDTH = 3;
const LAYERS = 2;
const ROW_BYTES = 4 * WIDTH * LAYERS;

const heapBytes = () => addon.stats(defaultDevice()).heapBytes;
const newCache = () => new KvCache(defaultDevice(), 'float32', LAYERS, WIDTH);

/** What stands in the row of a token: no other text, token or layer has it. */
const rowOf = (text: number, token: number, layer: number) => [text, token, layer];

/** Writes the rows of the new tokens, as a decoder would. */
function fill(layers: readonly NativeTensor[], region: Region, text: number, count: number): void {
  layers.forEach((layer, i) => {
    for (let token = region.length - count; token < region.length; token++)
      layer.write(Float32Array.from(rowOf(text, token, i)), (region.start + token) * WIDTH);
  });
}

function expectAllThere(layers: readonly NativeTensor[], region: Region, text: number): void {
  layers.forEach((layer, i) => {
    const rows = layer.view([region.length, WIDTH], region.start * WIDTH);
    expect([...rows.floats()]).toEqual(
      Array.from({ length: region.length }, (_, token) => rowOf(text, token, i)).flat(),
    );
    release(rows);
  });
}

/** Appends to texts, and looks at all that is in them. */
function extend(cache: KvCache, counts: [text: number, count: number][]): Region[] {
  return cache.extend(new Map(counts), (layers, regions) => {
    counts.forEach(([text, count], j) => {
      fill(layers, regions[j], text, count);
    });
    counts.forEach(([text], j) => {
      expectAllThere(layers, regions[j], text);
    });
    return [...regions];
  });
}

describe('KvCache', () => {
  it('keeps the rows of each text, whatever comes and goes, in memory bounded by what is alive', () => {
    const before = heapBytes();
    const cache = newCache();
    const random = new Random(1);
    const alive: number[] = [];
    for (let round = 0; round < 300; round++) {
      // Many texts for a while, then few: the cache grows and shrinks.
      const most = round % 100 < 50 ? 12 : 2;
      while (alive.length < most) alive.push(cache.add());
      while (alive.length > most) cache.remove(alive.splice(random.below(alive.length), 1)[0]);
      if (random.uniform() < 0.3) cache.remove(alive.splice(random.below(alive.length), 1)[0]);
      // Some texts go on by a token, or by a piece, in any order.
      const counts = alive
        .filter(() => random.uniform() < 0.7)
        .map((text): [number, number] => [text, random.uniform() < 0.8 ? 1 : 1 + random.below(100)])
        .sort(() => random.uniform() - 0.5);
      const regions = extend(cache, counts);
      for (const [j, region] of regions.entries()) {
        expect(region.length).toBeLessThanOrEqual(region.capacity);
        for (const other of regions.slice(0, j))
          expect(
            region.start + region.capacity <= other.start || other.start + other.capacity <= region.start,
          ).toBe(true);
      }
      // A region has at most twice the rows of its tokens (64 at first), the matrices four times those of the regions.
      const rows = alive.reduce((sum, text) => sum + Math.max(64, 2 * cache.length(text)), 0);
      if (counts.length > 0) expect(heapBytes() - before).toBeLessThanOrEqual(4 * rows * ROW_BYTES);
    }
    cache.dispose();
    expect(heapBytes()).toBe(before);
  });

  it('doubles the rows of one text, and holds no more than these', () => {
    const before = heapBytes();
    const cache = newCache();
    const text = cache.add();
    for (const [count, rows] of [
      [1, 64],
      [63, 64],
      [1, 128],
      [200, 512],
      [248, 1024],
    ]) {
      extend(cache, [[text, count]]);
      expect(heapBytes() - before).toBe(rows * ROW_BYTES);
    }
    cache.remove(text);
    expect(heapBytes()).toBe(before);
  });

  it('gives the rows of a text that has ended to the next one', () => {
    const cache = newCache();
    const texts = [cache.add(), cache.add(), cache.add()];
    const regions = extend(
      cache,
      texts.map((text) => [text, 5]),
    );
    cache.remove(texts[1]);
    const bytes = heapBytes();
    expect(extend(cache, [[cache.add(), 64]])).toEqual([{ ...regions[1], length: 64 }]);
    expect(heapBytes()).toBe(bytes);
    cache.dispose();
  });

  it('moves a full text to free rows, and is as it was when what fills them fails', () => {
    const cache = newCache();
    const [first, second, third] = [cache.add(), cache.add(), cache.add()];
    extend(cache, [
      [first, 64],
      [second, 64],
      [third, 130],
    ]);
    cache.remove(third);
    const bytes = heapBytes();
    const fail = (count: number) => () =>
      cache.extend(new Map([[first, count]]), (layers, [region]) => {
        expect(region.capacity).toBeGreaterThan(64);
        fill(layers, region, 9, count);
        throw new Error('in the middle');
      });
    // By a move within the matrices, and by new ones.
    for (const count of [1, 1000]) {
      expect(fail(count)).toThrow('in the middle');
      expect(heapBytes()).toBe(bytes);
      expect(cache.length(first)).toBe(64);
    }
    const [a, b] = extend(cache, [
      [second, 1],
      [first, 1],
    ]);
    expect([a.length, b.length]).toEqual([65, 65]);
    cache.dispose();
  });

  it('knows no text that was removed, or never added', () => {
    const cache = newCache();
    const text = cache.add();
    cache.remove(text);
    expect(cache.add()).not.toBe(text);
    for (const unknown of [text, 17]) {
      expect(() => cache.remove(unknown)).toThrow(
        `there is no text ${unknown}: it was removed, or never added`,
      );
      expect(() => cache.length(unknown)).toThrow(`there is no text ${unknown}`);
    }
    cache.dispose();
  });
});
