import { afterEach, describe, expect, it } from 'vitest';
import { addon, defaultDevice } from '../device/addon.js';
import { parseLlamaConfig } from './config.js';
import { disposeBatch, toDevice } from './device_batch.js';
import { RopeTables } from './rope_tables.js';

const config = parseLlamaConfig(
  { vocab_size: 7, hidden_size: 8, num_attention_heads: 2, num_hidden_layers: 1 },
  'test',
);
const tables = new RopeTables(config, defaultDevice());
afterEach(() => tables.dispose());

const batch = {
  ids: Int32Array.of(6, 0, 3, 2, 1),
  targets: Int32Array.of(0, -100, 2, 6, -100),
  documentOffsets: Int32Array.of(0, 2, 5),
};
const upload = (change: Partial<typeof batch> = {}) =>
  toDevice({ ...batch, ...change }, { config, device: defaultDevice() }, tables);

describe('a micro-batch on a device', () => {
  it('has what the model derives from it, and leaves nothing', () => {
    const { heapBytes } = addon.stats(defaultDevice());
    const { ids, labelRows, targets, angles, documents, ...sizes } = upload();
    expect(sizes).toEqual({ tokens: 5, labels: 3 });
    expect([ids, labelRows, targets, angles.index].map((t) => [...t.read()])).toEqual([
      [6, 0, 3, 2, 1],
      [0, 2, 3],
      [0, 2, 6],
      [0, 1, 0, 1, 2],
    ]);
    const { offsets, keyStarts, keyLengths, ...numbers } = documents;
    expect([offsets, keyStarts, keyLengths].map((t) => [...t.read()])).toEqual([
      [0, 2, 5],
      [0, 2],
      [2, 3],
    ]);
    expect(numbers).toEqual({ count: 2, tokens: 5, longest: 3, longestKeys: 3, keyRows: 5, pairs: 9 });
    disposeBatch({ ids, labelRows, targets, angles, documents, ...sizes });
    tables.dispose();
    expect(addon.stats(defaultDevice()).heapBytes).toBe(heapBytes);
  });

  it.each([
    ['ids[2] is 7, the vocabulary has the ids 0…6', { ids: Int32Array.of(6, 0, 7, 2, 1) }],
    ['ids[0] is -1, the vocabulary has the ids 0…6', { ids: Int32Array.of(-1, 0, 3, 2, 1) }],
    ['targets[1] is -1, expected 0…6 or -100', { targets: Int32Array.of(0, -1, 2, 6, -100) }],
    ['there are 5 ids, but 1 targets', { targets: Int32Array.of(0) }],
    ['documentOffsets [0,2,4] do not run from 0 to the 5 ids', { documentOffsets: Int32Array.of(0, 2, 4) }],
    ['documentOffsets [0,3,2,5] do not run', { documentOffsets: Int32Array.of(0, 3, 2, 5) }],
    ['documentOffsets [1,5] do not run', { documentOffsets: Int32Array.of(1, 5) }],
  ])('is refused: %s', (message, change) => {
    expect(() => upload(change)).toThrow(message);
  });
});
