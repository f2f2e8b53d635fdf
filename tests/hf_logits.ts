import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel } from '../engine/checkpoint/load_model.js';

/** A Python with torch and transformers, named by who has one. The product needs none. */
export const peerPython = process.env.TSTRAIN_PEER_PYTHON;

/**
 * Opens a model directory here and with Hugging Face transformers ({@link peerPython}), both in float32.
 * @returns the largest difference of the logits of `ids`, and the largest logit of theirs
 */
export async function compareWithTransformers(
  directory: string,
  ids: readonly number[],
): Promise<{ difference: number; largest: number }> {
  const scratch = mkdtempSync(join(tmpdir(), 'tstrain-logits-'));
  const out = join(scratch, 'logits');
  // Its progress bars are not ours to show; an error's text is in the exception.
  execFileSync(
    peerPython!,
    [join(import.meta.dirname, 'hf_logits.py'), directory, JSON.stringify(ids), out],
    {
      stdio: 'pipe',
    },
  );
  const bytes = readFileSync(out);
  rmSync(scratch, { recursive: true });
  const theirs = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);

  const { model } = await loadModel(directory);
  const tensor = model.logits({
    ids: Int32Array.from(ids),
    targets: new Int32Array(ids.length).fill(-100),
    documentOffsets: Int32Array.of(0, ids.length),
  });
  const ours = tensor.floats();
  tensor.dispose();
  model.dispose();
  if (ours.length !== theirs.length) throw new Error(`${ours.length} logits here, ${theirs.length} there`);
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < ours.length; i++) {
    difference = Math.max(difference, Math.abs(ours[i] - theirs[i]));
    largest = Math.max(largest, Math.abs(theirs[i]));
  }
  return { difference, largest };
}
