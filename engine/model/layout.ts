import { sizeOf } from '../device/native_tensor.js';

/** What a parameter of a new model starts from: N(0, normal²), or one value everywhere. */
export type Initial = { normal: number } | { constant: number };

/** All that a model says of one of its parameters. */
export interface ParameterSpec {
  /** The name in Hugging Face files. */
  name: string;
  shape: readonly number[];
  initial: Initial;
  /** Whether weight decay applies: to everything but norms and biases, as Hugging Face's Trainer does. */
  decayed: boolean;
  /** A frozen parameter has neither gradient nor moments nor, in bf16, more of its value than that. */
  trainable: boolean;
  /** A row a word: in memory there may be more rows than words, of zeros. */
  isVocabulary?: true;
  /** Of a low-rank adapter (arXiv 2106.09685), of which `of` computes W + scale·B·A: A is [r, in], B [out, r]. */
  adapter?: { of: string; part: 'A' | 'B'; scale: number };
}

/** Parameters that lie next to each other, so that ops can take them as one matrix: their rows follow each other. */
export type ParameterGroup = readonly ParameterSpec[];

/** One parameter in the flat buffers; offsets and sizes count elements. */
export interface LayoutEntry extends ParameterSpec {
  offset: number;
  size: number;
  /** Rows in memory. Those that the shape has not are zeros, and so are their gradients and moments. */
  rows: number;
}

/** A stretch of the flat buffers that the optimizer treats alike. */
export interface LayoutRange {
  offset: number;
  size: number;
  decayed: boolean;
}

/**
 * Where every parameter lies in the flat buffers. Trainable ones come first, so that gradients, moments and remainders
 * are buffers of `trainableSize` elements with the same offsets; among these the decayed ones, so that AdamW
 * is a call a range.
 */
export interface Layout {
  /** In the order of the specifications, which is that of files and of the seeds of new weights. */
  entries: readonly LayoutEntry[];
  /** Of trainable parameters. */
  ranges: readonly LayoutRange[];
  /** Elements of the flat buffers, alignment included: of what is trained, and of all. */
  trainableSize: number;
  size: number;
  /** Elements of all parameters, without the alignment. */
  parameters: number;
}

/** Groups start at multiples of 128 elements: 256 bytes in bfloat16, 512 in float32. */
const ALIGN = 128;

/**
 * @param vocabularyStep matrices with a row a word have rows up to a multiple of it
 * @throws Error for a group whose members differ in what the flat buffers keep of them, or that are not rows alike
 */
export function layoutOf(groups: readonly ParameterGroup[], vocabularyStep = 1): Layout {
  const rowsOf = ({ shape: [rows], isVocabulary }: ParameterSpec) =>
    isVocabulary ? Math.ceil(rows / vocabularyStep) * vocabularyStep : rows;
  const offsets = new Map<ParameterSpec, number>();
  let end = 0;
  const aligned = () => (end = Math.ceil(end / ALIGN) * ALIGN);
  const place = (isOfRange: (spec: ParameterSpec) => boolean) => {
    const offset = end;
    for (const group of groups.filter(([first]) => isOfRange(first))) {
      checkAlike(group);
      aligned();
      for (const spec of group) {
        offsets.set(spec, end);
        end += rowsOf(spec) * sizeOf(spec.shape.slice(1));
      }
    }
    return { offset, size: aligned() - offset };
  };
  const ranges = [true, false].map((decayed) => ({
    ...place((spec) => spec.trainable && spec.decayed === decayed),
    decayed,
  }));
  const trainableSize = end;
  place((spec) => !spec.trainable);

  const entries = groups.flat().map((spec) => ({
    ...spec,
    offset: offsets.get(spec)!,
    size: sizeOf(spec.shape),
    rows: rowsOf(spec),
  }));
  return {
    entries,
    ranges: ranges.filter(({ size }) => size > 0),
    trainableSize,
    size: end,
    parameters: entries.reduce((sum, { size }) => sum + size, 0),
  };
}

function checkAlike(group: ParameterGroup): void {
  const [first, ...others] = group;
  for (const other of others)
    if (
      other.trainable !== first.trainable ||
      other.decayed !== first.decayed ||
      other.shape.slice(1).join() !== first.shape.slice(1).join()
    )
      throw new Error(
        `${first.name} and ${other.name} are one matrix: both are trainable or frozen, decayed or not, with rows of one shape`,
      );
}
