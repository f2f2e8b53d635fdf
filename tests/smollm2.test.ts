import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  encodePrompt,
  finetune,
  generate,
  loadModel,
  loadTokenizer,
  type RowScore,
  scoreRows,
} from '../index.js';
import { describeShared, shared } from './shared.js';

// A real pretrained model against float64 PyTorch and transformers: as ../shared/tools/get_smollm2.py writes it.
const MODEL = join(import.meta.dirname, '../models/smollm2-135m');
const goldens = (name: string) => shared(`goldens/smollm2/${name}`);
const lines = (name: string) => readFileSync(goldens(name), 'utf8').trim().split('\n');
const json = (name: string) => JSON.parse(readFileSync(goldens(name), 'utf8'));

const there = existsSync(MODEL);
if (!there)
  console.warn(
    'skipped: SmolLM2-135M (needs models/smollm2-135m: get_smollm2.py in ../shared/tools writes it)',
  );

describe.skipIf(!there)('SmolLM2-135M', () => {
  describeShared('in float32', ['goldens/smollm2'], () => {
    const folder = mkdtempSync(join(tmpdir(), 'tstrain-smollm2-'));
    const rows = lines('rows.jsonl');
    beforeAll(() => {
      writeFileSync(join(folder, 'train.jsonl'), rows.slice(0, 16).join('\n'));
      writeFileSync(join(folder, 'held_out.jsonl'), rows.slice(16).join('\n'));
    });
    afterAll(() => rmSync(folder, { recursive: true }));

    async function scores(model: string, file: string): Promise<RowScore[]> {
      const { model: loaded } = await loadModel(model);
      const list: RowScore[] = [];
      for await (const score of scoreRows(loaded, file, undefined)) list.push(score);
      loaded.dispose();
      return list;
    }
    const tokenMean = (list: RowScore[]) =>
      list.reduce((sum, { loss, labelTokens }) => sum + loss! * labelTokens, 0) /
      list.reduce((sum, { labelTokens }) => sum + labelTokens, 0);

    it('gives the losses of real rows', async () => {
      const expected = json('score.json');
      const found = await scores(MODEL, goldens('rows.jsonl'));
      expect(found).toHaveLength(expected.length);
      for (const [i, { loss, labelTokens }] of found.entries()) {
        expect(labelTokens).toBe(expected[i].label_tokens);
        // Float32 arithmetic through 30 layers; measured: 2.4e-6.
        expect(Math.abs(loss! - expected[i].loss), `row ${i}`).toBeLessThan(1e-5);
      }
    }, 600_000);

    it('goes on with the same ids and text', async () => {
      const tokenizer = await loadTokenizer(MODEL);
      const { model } = await loadModel(MODEL);
      for (const { prompt, prompt_ids, ids, text } of json('greedy.json')) {
        expect(encodePrompt(tokenizer, prompt)).toEqual(prompt_ids);
        const { ids: found } = await generate(model, prompt_ids, {
          maxNewTokens: 40,
          eosTokenIds: [tokenizer.eosId!],
        });
        expect(found, prompt).toEqual(ids);
        expect(tokenizer.decode(ids)).toBe(text);
      }
      model.dispose();
    }, 600_000);

    it.each([
      ['fp32', { loss: 2e-5, norm: 1e-4, heldOut: 1e-4 }],
      // 1.5 × the worst of PyTorch's autocast; the gradient norm has no bar there.
      ['bf16', { loss: 0.057, norm: Number.POSITIVE_INFINITY, heldOut: 0.057 }],
    ])(
      'trains as the reference does: %s',
      async (precision, bar) => {
        const trace = json('trace.json');
        const output_dir = join(folder, precision);
        const found: { loss: number; grad_norm: number; learning_rate: number }[] = [];
        await finetune(
          {
            model_name_or_path: MODEL,
            data_path: join(folder, 'train.jsonl'),
            output_dir,
            data_order: 'sequential',
            per_device_train_batch_size: 1,
            gradient_accumulation_steps: 4,
            max_steps: 6,
            learning_rate: 2e-5,
            warmup_steps: 2,
            save_strategy: 'no',
            bf16: precision === 'bf16',
          },
          { onLog: (line) => 'grad_norm' in line && found.push(line as never) },
        );
        expect(found).toHaveLength(6);
        for (const [i, { loss, grad_norm, lr }] of trace.steps.entries()) {
          expect(Math.abs(found[i].loss - loss), `step ${i + 1}`).toBeLessThan(bar.loss);
          expect(Math.abs(found[i].grad_norm / grad_norm - 1), `step ${i + 1}`).toBeLessThan(bar.norm);
          expect(found[i].learning_rate).toBeCloseTo(lr, 12);
        }
        const heldOut = join(folder, 'held_out.jsonl');
        expect(Math.abs(tokenMean(await scores(MODEL, heldOut)) - trace.held_loss_before)).toBeLessThan(1e-5);
        const after = tokenMean(await scores(output_dir, heldOut));
        expect(Math.abs(after - trace.held_loss_after)).toBeLessThan(bar.heldOut);
      },
      600_000,
    );
  });
});
