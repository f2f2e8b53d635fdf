import { createInterface } from 'node:readline';

// Each side of a comparison is a process of its own, which loads, warms up, prints one JSON line, and then answers
// every line it reads with one timed round. So rounds of all sides can take turns without paying for loading or
// compiling each time. peer_torch.py speaks the same.

/** The first line of a process that trains. */
export interface Ready {
  parameters: number;
  /** The mean loss of the first step, before any update. */
  first_loss: number;
  threads: number;
  versions: Record<string, string>;
}

/** One timed round of a process that trains. */
export interface Round {
  /** Real tokens, over the whole round. */
  tokens: number;
  tok_s: number;
  /** Of the round's steps. */
  median_step_ms: number;
  /** High-water mark of resident memory, since the process began. */
  peak_rss_mib: number;
  /** Memory of the device's own at its fullest; null where it has none. */
  device_mib: number | null;
  /** Of the round's last step. */
  loss: number;
}

/** What only this project's side can say, in its first line. */
export interface OwnReady extends Ready {
  instruction_set: string;
  bf16_gemm: string;
  /** Resident memory before there was a model. */
  rss_before_mib: number;
  /** What the meta device counts for the very same steps. */
  plan: DeviceMemory;
}

export interface OwnRound extends Round {
  /** As the op table's contracts count them: a multiply and an add are two. */
  flops: number;
  measured: DeviceMemory;
}

/** Bytes. */
export interface DeviceMemory {
  arena: number;
  heap: number;
}

/** One round of the process that measures what bounds a step. */
export interface Limits {
  /** The matrix products of one step, and nothing else. */
  gemm_seconds: number;
  /** FLOPs/s of a product of two square matrices of 2,048 rows. */
  peak_flops: number;
  /** A copy of 256 MiB: bytes read and bytes written per second. */
  copy_bytes_per_second: number;
}

/** Prints `ready`, then answers each line of standard input with a round, until it ends. */
export async function serve(ready: object, round: () => object | Promise<object>): Promise<void> {
  const print = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`);
  print(ready);
  for await (const _ of createInterface({ input: process.stdin })) print(await round());
}
