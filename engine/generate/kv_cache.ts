import type { DeviceName } from '../device/addon.js';
import { type DType, NativeTensor, release, releaseOnThrow } from '../device/native_tensor.js';
import { cast } from '../ops/elementwise.js';

/** Rows of a text's first region. */
const FIRST_ROWS = 64;

/** Rows start … start + capacity − 1 belong to a text, whose tokens fill the first `length` of them. */
export interface Region {
  readonly start: number;
  readonly capacity: number;
  readonly length: number;
}

const NOTHING: Region = { start: 0, capacity: 0, length: 0 };

/**
 * The keys and values of many texts. Each layer has a matrix with a row k | v for each token; a text owns a region of
 * its rows, the same in every layer, with room behind its tokens. A region that is full moves to one of twice as many
 * rows. Where none is free, and where texts have left three quarters of the rows unused, the matrices are made anew
 * with all regions end to end: what the cache holds is bounded by what is alive, not by what has been.
 */
export class KvCache {
  private layers: readonly NativeTensor[] = [];
  private rows = 0;
  private regions = new Map<number, Region>();
  private texts = 0;

  constructor(
    private readonly device: DeviceName,
    private readonly dtype: DType,
    private readonly layerCount: number,
    private readonly width: number,
  ) {}

  /** A new text, without tokens; it is known by this number until it is removed. */
  add(): number {
    this.regions.set(this.texts, NOTHING);
    return this.texts++;
  }

  /** Tokens of a text. @throws Error when there is no such text */
  length(text: number): number {
    const region = this.regions.get(text);
    if (!region) throw new Error(`there is no text ${text}: it was removed, or never added`);
    return region.length;
  }

  /** The text ends: its rows are free. @throws Error when there is no such text */
  remove(text: number): void {
    this.length(text);
    this.regions.delete(text);
    if (this.regions.size === 0) this.replaceLayers([], 0);
  }

  /**
   * Makes room for `counts` more tokens of texts and calls `body`, which is to fill it: with the matrix of each layer,
   * [rows, width], and the region of each text given, in their order, the new tokens counted in. What `body` returns
   * is returned, and the texts are longer; when it throws, or memory is missing, all is as it was before, and what it
   * made is released.
   */
  extend<T>(
    counts: ReadonlyMap<number, number>,
    body: (layers: readonly NativeTensor[], regions: readonly Region[]) => T,
  ): T {
    const { regions, rows } = this.plan(counts);
    const [result, layers] = releaseOnThrow(() => {
      const layers = rows === undefined ? this.layers : this.newLayers(rows);
      // Rows that moved are copied: nothing is written where tokens of a text stand until all is done.
      for (const [text, to] of regions) {
        const from = this.regions.get(text)!;
        if (from.length > 0 && (layers !== this.layers || to.start !== from.start))
          layers.forEach((layer, i) => {
            copyRows(layer, to.start, this.layers[i], from.start, from.length);
          });
      }
      return [
        body(
          layers,
          Array.from(counts.keys(), (text) => regions.get(text)!),
        ),
        layers,
      ] as const;
    });
    if (rows !== undefined) this.replaceLayers(layers, rows);
    this.regions = regions;
    return result;
  }

  dispose(): void {
    this.replaceLayers([], 0);
    this.regions.clear();
  }

  /** The regions of all texts when those given are so much longer; `rows` when that takes new matrices of so many. */
  private plan(counts: ReadonlyMap<number, number>): { regions: Map<number, Region>; rows?: number } {
    const regions = new Map(this.regions);
    const taken = [...this.regions.values()];
    let fits = true;
    for (const [text, count] of counts) {
      const old = this.regions.get(text)!;
      const length = old.length + count;
      if (length <= old.capacity) {
        regions.set(text, { ...old, length });
        continue;
      }
      let capacity = Math.max(old.capacity, FIRST_ROWS);
      while (capacity < length) capacity *= 2;
      const start = firstGap(taken, capacity, this.rows);
      fits &&= start !== undefined;
      const region = { start: start ?? 0, capacity, length };
      regions.set(text, region);
      if (fits) taken.push(region);
    }
    const needed = [...regions.values()].reduce((sum, { capacity }) => sum + capacity, 0);
    if (fits && this.rows <= 4 * needed) return { regions };
    let start = 0;
    for (const [text, region] of regions) {
      regions.set(text, { ...region, start });
      start += region.capacity;
    }
    return { regions, rows: 2 ** Math.ceil(Math.log2(needed)) };
  }

  private newLayers(rows: number): NativeTensor[] {
    return Array.from({ length: this.layerCount }, () =>
      NativeTensor.onHeap(this.device, this.dtype, [rows, this.width]),
    );
  }

  private replaceLayers(layers: readonly NativeTensor[], rows: number): void {
    release(...this.layers);
    this.layers = layers;
    this.rows = rows;
  }
}

/** The first of `count` rows that lie in none of the regions `taken`, of `rows` in all. */
function firstGap(taken: readonly Region[], count: number, rows: number): number | undefined {
  let start = 0;
  for (const region of taken.toSorted((a, b) => a.start - b.start)) {
    if (region.start - start >= count) break;
    start = Math.max(start, region.start + region.capacity);
  }
  return start + count <= rows ? start : undefined;
}

function copyRows(to: NativeTensor, toRow: number, from: NativeTensor, fromRow: number, count: number): void {
  const width = to.shape[1];
  const [target, source] = [
    to.view([count, width], toRow * width),
    from.view([count, width], fromRow * width),
  ];
  cast(target, source);
  release(target, source);
}
