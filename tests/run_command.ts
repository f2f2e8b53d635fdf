import { Writable } from 'node:stream';
import type { Command } from 'commander';

/** A stream that keeps what is written to it. */
export class Captured extends Writable {
  text = '';

  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.text += chunk;
    done();
  }
}

/** Runs a command as `tstrain` would, and returns what it printed and the error it failed with. */
export async function runCommand(
  command: (streams: { stdout: Captured; stderr: Captured }) => Command,
  ...args: string[]
): Promise<{ stdout: string; stderr: string; error?: Error }> {
  const [stdout, stderr] = [new Captured(), new Captured()];
  const error: Error | undefined = await command({ stdout, stderr })
    .exitOverride()
    .configureOutput({ writeErr: (text) => void stderr.write(text) })
    .parseAsync(args, { from: 'user' })
    .then(
      () => undefined,
      (reason) => reason,
    );
  return { stdout: stdout.text, stderr: stderr.text, error };
}
