import { readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { addon, defaultDevice } from '../engine/device/addon.js';
import type { EvalLine, TrainLine } from '../engine/train/metrics.js';
import { UserError } from '../errors.js';
import { RunDirectory, randomRows, TINY } from '../tests/tiny_run.js';
import { type FinetuneOptions, finetune } from './finetune.js';
import type { Settings } from './settings.js';

let directory: RunDirectory;
let settings: Settings;
beforeEach(() => {
  directory = new RunDirectory();
  vi.stubEnv('XDG_CACHE_HOME', directory.at('.cache'));
  directory.writeRows('rows.jsonl', randomRows(12, 21));
  settings = {
    model_config: TINY,
    data_path: directory.at('rows.jsonl'),
    output_dir: directory.at('out'),
    per_device_train_batch_size: 3,
    gradient_accumulation_steps: 2,
    max_steps: 8,
    learning_rate: 1e-2,
    save_strategy: 'no',
    threads: 1,
  };
});
afterEach(() => {
  directory.remove();
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

const weights = (output: string) => directory.bytes(output, 'model.safetensors');

/** What of native memory is in use, and the threads that are set. */
function machine() {
  const { heapBytes, arenaInUse } = addon.stats(defaultDevice());
  return { heapBytes, arenaInUse, threads: addon.info().threads };
}

/** Stops a run, by `signal` or `hardSignal`, once it has done so many steps. */
function stopAfter(step: number, by: 'signal' | 'hardSignal'): FinetuneOptions {
  const controller = new AbortController();
  return {
    [by]: controller.signal,
    onProgress: (progress) => {
      if (progress.step === step) controller.abort();
    },
  };
}

describe('finetune', () => {
  it('tells its caller all that it does, and prints nothing', async () => {
    const printed = [process.stdout, process.stderr].map((stream) =>
      vi.spyOn(stream, 'write').mockReturnValue(true),
    );
    const before = machine();
    const messages: string[] = [];
    const started: object[] = [];
    const progress: object[] = [];
    const lines: (TrainLine | EvalLine)[] = [];
    const end = await finetune(
      { ...settings, eval_strategy: 'steps', eval_steps: 4, eval_data_path: settings.data_path },
      {
        onMessage: (text) => messages.push(text),
        onStart: (run) => started.push(run),
        onProgress: (step) => progress.push(step),
        onLog: (line) => lines.push(line),
      },
    );
    expect(end).toEqual({ outcome: 'finished', step: 8, model: settings.output_dir });
    expect(messages).toContain(`8 steps of 2 × 3 examples into ${settings.output_dir}`);
    expect(started).toEqual([{ stepsDone: 0, totalSteps: 8 }]);
    expect(progress).toEqual(
      [1, 2, 3, 4, 5, 6, 7, 8].map((step) => ({ step, totalSteps: 8, loss: expect.any(Number) })),
    );
    expect(lines).toEqual(directory.metrics());
    expect(lines).toHaveLength(10);
    for (const write of printed) expect(write).not.toHaveBeenCalled();
    expect(machine()).toEqual(before);
  });

  it('stopped by its signal it saves, and resumed it ends as if it had never stopped', async () => {
    await finetune({ ...settings, output_dir: directory.at('whole') });
    expect(await finetune(settings, stopAfter(3, 'signal'))).toEqual({
      outcome: 'stopped_and_saved',
      step: 3,
      model: directory.at('out/checkpoint-3'),
    });
    const resumed = await finetune(settings, { resume: true });
    expect(resumed).toEqual({ outcome: 'finished', step: 8, model: settings.output_dir });
    expect(weights('out').equals(weights('whole'))).toBe(true);
    expect(directory.untimedMetrics('out')).toBe(directory.untimedMetrics('whole'));
  });

  it('stopped by its hard signal it leaves the step and saves nothing', async () => {
    const before = machine();
    expect(await finetune(settings, stopAfter(3, 'hardSignal'))).toEqual({
      outcome: 'stopped_at_once',
      step: 3,
      model: undefined,
    });
    expect(directory.list('out')).toEqual(['metrics.jsonl', 'resolved_config.yaml']);
    expect(machine()).toEqual(before);
  });

  it.each([
    ['a checkpoint', 'checkpoint-4', { save_strategy: 'steps', save_steps: 4 }, 4],
    ['the final model', 'model', {}, 8],
  ] as const)(
    'stopped by its hard signal within %s it leaves nothing of it',
    async (_, name, extra, step) => {
      const before = machine();
      const controller = new AbortController();
      const messages: string[] = [];
      const watch = () => {
        if (directory.list('out').some((file) => file.startsWith(`.tmp-${name}-`))) controller.abort();
        else setImmediate(watch);
      };
      watch();
      const end = await finetune(
        { ...settings, ...extra },
        { hardSignal: controller.signal, onMessage: (text) => messages.push(text) },
      );
      expect(end).toEqual({ outcome: 'stopped_at_once', step, model: undefined });
      expect(messages.at(-1)).toBe('stopping at once');
      expect(directory.list('out')).toEqual(['metrics.jsonl', 'resolved_config.yaml']);
      expect(machine()).toEqual(before);
    },
  );

  it('says what it will still do when it is told to stop', async () => {
    const settingsOf = (output_dir: string): Settings => ({
      ...settings,
      output_dir: directory.at(output_dir),
      eval_strategy: 'steps',
      eval_steps: 4,
      eval_data_path: settings.data_path,
      per_device_eval_batch_size: 1,
      save_strategy: 'steps',
      save_steps: 4,
    });
    /** What is said first after `signal` aborts, as soon as `isTime`. */
    const said = async (output_dir: string, isTime: (lines: number) => boolean) => {
      const controller = new AbortController();
      const messages: string[] = [];
      let lines = 0;
      let before: number | undefined;
      const watch = () => {
        if (!isTime(lines)) setImmediate(watch);
        else {
          before = messages.length;
          controller.abort();
        }
      };
      watch();
      await finetune(settingsOf(output_dir), {
        signal: controller.signal,
        onMessage: (text) => messages.push(text),
        onLog: () => lines++,
      });
      return messages[before!];
    };
    const isWriting = (output_dir: string, what: string) =>
      directory.list(output_dir).some((file) => file.startsWith(`.tmp-${what}`));
    const more = '; once more stops at once';
    expect(await said('a', (lines) => lines === 1)).toBe(`finishing this step, then saving${more}`);
    expect(await said('b', (lines) => lines === 4)).toBe(`finishing this evaluation, then saving${more}`);
    expect(await said('c', () => isWriting('c', 'checkpoint-4'))).toBe(
      `finishing this checkpoint, then stopping${more}`,
    );
    for (const [output_dir, what] of [
      ['d', 'checkpoint-8'],
      ['e', 'model'],
    ])
      expect(await said(output_dir, () => isWriting(output_dir, what))).toBe(
        `all steps are done: saving what is left to save, with which the run ends${more}`,
      );
  });

  it.each(['signal', 'hardSignal'] as const)(
    'with %s aborted before its first step it does nothing',
    async (by) => {
      const end = await finetune(settings, { [by]: AbortSignal.abort() });
      expect(end).toEqual({ outcome: 'stopped_at_once', step: 0, model: undefined });
      expect(directory.list('out')).toEqual([]);
      expect(directory.list()).not.toContain('out');
    },
  );

  it('replaces what an earlier run left only when it is told to', async () => {
    await finetune(settings);
    const first = weights('out');
    await expect(finetune({ ...settings, seed: 1 })).rejects.toThrow('output_dir already holds a model');
    expect(weights('out').equals(first)).toBe(true);
    await finetune({ ...settings, seed: 1 }, { replace: true });
    expect(weights('out').equals(first)).toBe(false);
  });

  it('keeps a second run out of its output_dir, also one of the same program', async () => {
    const first = finetune(settings);
    await expect(finetune(settings)).rejects.toThrow(/another run is writing here \(process \d+ on /);
    expect((await first).outcome).toBe('finished');
  });

  it('names the key of a setting that is wrong, before it touches anything', async () => {
    const { model_config: _, ...none } = settings;
    for (const [wrong, message] of [
      [{ ...settings, learing_rate: 1 }, 'unknown key "learing_rate"; did you mean "learning_rate"?'],
      [{ ...settings, seed: -1 }, 'seed: expected a whole number from 0 to 4294967295, got -1'],
      [
        { ...settings, bf16: undefined, seed: 2n },
        'seed: expected a whole number from 0 to 4294967295, got 2n',
      ],
      [{ ...settings, data_path: undefined }, 'data_path is missing; it is the path of a file'],
      [{ ...settings, data_path: 'none.json' }, 'data_path: no such file: none.json'],
      [
        none,
        'give model_name_or_path (a checkpoint to fine-tune) or model_config (a new model); both are missing',
      ],
      [
        { ...settings, model_name_or_path: directory.path },
        'model_config: excludes model_name_or_path; keep one of the two',
      ],
      [
        { ...settings, model_config: { hidden_sze: 8 } },
        'model_config: unknown key "hidden_sze"; did you mean "hidden_size"?',
      ],
      [
        { ...settings, model_config: { hidden_size: 66 } },
        'model_config: hidden_size is 66; it must be a multiple of num_attention_heads (32)',
      ],
    ] as const) {
      const error: unknown = await finetune(wrong as unknown as Settings).catch((reason) => reason);
      expect(error).toBeInstanceOf(UserError);
      expect((error as Error).message).toBe(message);
    }
    expect(directory.list()).not.toContain('out');
  });

  it('says what it takes otherwise than the model says it, and looks at its files before the data', async () => {
    const first = { ...settings, max_steps: 1, output_dir: directory.at('first') };
    await finetune(first);
    const { model_config: _, ...others } = settings;
    const second = { ...others, max_steps: 1, model_name_or_path: first.output_dir };
    const path = directory.at('first/config.json');
    const json = JSON.parse(readFileSync(path, 'utf8'));
    const messages: string[] = [];
    const onMessage = (text: string) => messages.push(text);

    writeFileSync(path, JSON.stringify({ ...json, vocab_size: 2 ** 30 }));
    await expect(finetune(second, { onMessage })).rejects.toThrow(
      'model.embed_tokens.weight has shape [53, 24], config.json asks for [1073741824, 24]',
    );
    expect(messages).toEqual([]);

    writeFileSync(path, JSON.stringify({ ...json, pretraining_tp: 2 }));
    await finetune(second, { onMessage });
    expect(messages).toContain(
      `${path}: pretraining_tp is 2; computed as with 1, which gives the same logits`,
    );
    expect(JSON.parse(readFileSync(directory.at('out/config.json'), 'utf8')).pretraining_tp).toBe(1);
  });

  it('gives memory, threads and lock back when it fails, and leaves checkpoints whole', async () => {
    const before = machine();
    const failing = {
      ...settings,
      learning_rate: 1e30,
      lr_scheduler_type: 'constant',
      save_steps: 1,
    } as const;
    const run = finetune({ ...failing, save_strategy: 'steps' });
    await expect(run).rejects.toThrow(/^step 2: the loss is NaN; /);
    await expect(run).rejects.toBeInstanceOf(UserError);
    expect(directory.list('out')).toEqual(['checkpoint-1', 'metrics.jsonl', 'resolved_config.yaml']);
    expect(machine()).toEqual(before);
    const thrown = new Error('of the program');
    const onLog = () => {
      throw thrown;
    };
    await expect(finetune(settings, { onLog, replace: true })).rejects.toBe(thrown);
    expect(machine()).toEqual(before);
    expect(readFileSync(directory.at('out/metrics.jsonl'), 'utf8')).toMatch(/^.*\n$/);
  });
});
