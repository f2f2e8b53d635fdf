import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import type { MicroBatch } from '../../batch.js';
import { llamaFixtures, loadModel } from '../../tests/llama_fixture.js';
import { addon, defaultDevice } from '../device/addon.js';
import { Gradients } from './parameters.js';

describe('a pass that fails', () => {
  const batch = (ids: number[], targets: number[]): MicroBatch => ({
    ids: Int32Array.from(ids),
    targets: Int32Array.from(targets),
    documentOffsets: Int32Array.of(0, ids.length),
  });
  const good = batch([1, 2, 3], [2, 3, -100]);
  const taken = () => {
    const { arenaInUse, heapBytes } = addon.stats(defaultDevice());
    return { arenaInUse, heapBytes };
  };

  it('keeps nothing of the memory that it took, wherever it fails, and the next one works', () => {
    const model = loadModel(join(llamaFixtures, 'mha-untied'), 'fp32');
    const gradients = new Gradients(model.parameters);
    const passes: ((of: MicroBatch) => void)[] = [
      (of) => void model.losses(of),
      (of) => model.logits(of).dispose(),
      (of) => model.forwardBackward(of, 1, gradients).dispose(),
    ];
    // RoPE tables are made once and stay.
    for (const pass of passes) pass(good);
    const before = taken();
    for (const pass of passes) {
      expect(() => pass(batch([1, -1, 3], [2, 3, -100]))).toThrow('ids[1] is -1');
      expect(() => pass(batch([1, 2, 3], [2, 1e9, -100]))).toThrow('targets[1] is 1000000000');
      expect(taken()).toEqual(before);
    }
    const failing = (op: 'gather_rows' | 'swiglu_forward' | 'rmsnorm_backward' | 'cross_entropy') => {
      const spy = vi.spyOn(addon.ops, op).mockImplementation(() => {
        throw new Error(`${op} fails`);
      });
      for (const pass of passes) {
        try {
          pass(good);
        } catch (error) {
          expect((error as Error).message).toBe(`${op} fails`);
        }
        expect(taken(), op).toEqual(before);
      }
      expect(spy).toHaveBeenCalled();
      spy.mockRestore();
    };
    for (const op of ['gather_rows', 'swiglu_forward', 'rmsnorm_backward', 'cross_entropy'] as const)
      failing(op);
    for (const pass of passes) pass(good);
    expect(taken()).toEqual(before);
    gradients.dispose();
    model.dispose();
  });

  it('of which there is the first one keeps the views of gradients that later ones add to', () => {
    const model = loadModel(join(llamaFixtures, 'mha-untied'), 'fp32');
    const gradients = new Gradients(model.parameters);
    const spy = vi.spyOn(addon.ops, 'rmsnorm_backward').mockImplementation(() => {
      throw new Error('fails');
    });
    expect(() => model.forwardBackward(good, 1, gradients)).toThrow('fails');
    spy.mockRestore();
    model.forwardBackward(good, 1, gradients).dispose();
    gradients.dispose();
    model.dispose();
  });

  it('takes as many rows as there are, however many', () => {
    const model = loadModel(join(llamaFixtures, 'mha-untied'), 'fp32');
    const rows = 150_000;
    const { index } = model.ropeTables.rowsOf(new Int32Array(rows).fill(1));
    expect(index).toHaveLength(rows);
    model.dispose();
  });
});
