import { describe, expect, it } from 'vitest';
import { broadcastStrides, denseStrides, loopOver } from './strides.js';

describe('loopOver', () => {
  const loop = (a: number[], b: number[], to: number[]) =>
    loopOver(to, broadcastStrides(a, to), broadcastStrides(b, to));

  it('makes one axis of tensors of one shape', () => {
    expect(loop([2, 3, 4, 5, 6], [2, 3, 4, 5, 6], [2, 3, 4, 5, 6])).toEqual({
      shape: [1, 1, 1, 720],
      strides: [
        [0, 0, 0, 1],
        [0, 0, 0, 1],
      ],
    });
  });

  it('joins the axes along which both are read, or repeated, alike', () => {
    // A bias over the rows of a batch.
    expect(loop([2, 3, 4], [4], [2, 3, 4])).toEqual({
      shape: [1, 1, 6, 4],
      strides: [
        [0, 0, 4, 1],
        [0, 0, 0, 1],
      ],
    });
    expect(loop([2, 1, 4], [1, 3, 1], [2, 3, 4])).toEqual({
      shape: [1, 2, 3, 4],
      strides: [
        [0, 4, 0, 1],
        [0, 0, 1, 0],
      ],
    });
    expect(loop([], [1, 1], [1, 1])).toEqual({
      shape: [1, 1, 1, 1],
      strides: [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
      ],
    });
  });

  it('says when it needs more axes', () => {
    expect(loop([2, 1, 2, 1, 2], [1, 2, 1, 2, 1], [2, 2, 2, 2, 2])).toBeUndefined();
  });

  it('keeps empty axes empty', () => {
    expect(loopOver([3, 0, 2], denseStrides([3, 0, 2]))!.shape).toContain(0);
  });
});
