import { constants } from 'node:os';
import { onSignals } from '../../engine/device/signals.js';
import { plainLine } from '../../errors.js';
import { runTraining } from '../../recipes/finetune.js';
import { loadConfig } from '../config.js';
import { makeProgress, type Progress } from '../progress.js';

export interface TrainRequest {
  config: string;
  resume: boolean;
  set: readonly string[];
  /** Whether to start anew over what a run of the same command left. */
  replace?: boolean;
  /** What to type to go on with a run that was stopped; default: this very command with --resume. */
  again?: string;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Under npx one Ctrl-C comes twice: from the terminal, and from npm, which passes its own on. People are slower. */
const SAME_SIGNAL_MS = process.env.npm_command === undefined ? 0 : 100;

/**
 * `tstrain --config FILE`. The first Ctrl-C (or SIGTERM, or the end of the terminal) finishes the step and saves; a
 * second one, or one before the first step, stops at once, that is when an op or a piece of a file is done. A run
 * whose last step is done finishes what it saves. The run itself says which it is. A run whose output goes
 * into a file or a pipe goes on when the terminal ends, as nohup wants it (Node hides from it whether there was a
 * nohup), and also when nobody reads the pipe any more: metrics.jsonl is its record.
 *
 * @returns the exit status; of a run that was told to stop 128 and the number of the signal, as of a command that it
 *   has ended, even if there was nothing left but to finish
 */
export async function trainCommand({
  config: file,
  resume,
  set,
  replace = false,
  again,
}: TrainRequest): Promise<number> {
  const config = loadConfig(file, set);
  const screen = process.stdout;
  let progress: Progress | undefined;
  const [stop, stopAtOnce] = [new AbortController(), new AbortController()];
  let stoppedAt = Number.NEGATIVE_INFINITY;
  let status = 0;
  const onSignal = (signal: NodeJS.Signals) => {
    if (signal === 'SIGHUP' && (!screen.isTTY || stop.signal.aborted)) return;
    if (performance.now() - stoppedAt < SAME_SIGNAL_MS) return;
    stoppedAt = performance.now();
    status = 128 + constants.signals[signal];
    // Reading data is left at any point: only a step has something to finish.
    if (progress === undefined) process.exit(status);
    (stop.signal.aborted ? stopAtOnce : stop).abort();
  };
  const signalsNoMore = onSignals(SIGNALS, onSignal, () => stopAtOnce.signal.throwIfAborted());
  screen.removeAllListeners('error').on('error', () => {});
  const print = (line: string) => screen.write(`${plainLine(line)}\n`);
  try {
    const { outcome, step, model } = await runTraining(config, {
      resume,
      replace,
      signal: stop.signal,
      hardSignal: stopAtOnce.signal,
      onStart({ stepsDone, totalSteps }) {
        progress = makeProgress(screen, totalSteps, stepsDone);
      },
      onMessage: (line) => (progress?.say ?? print)(line),
      onProgress: ({ step, loss }) => progress!.step(step, loss),
      onLog: (line) => progress!.metrics(line),
    }).finally(() => progress?.end());
    if (outcome === 'finished') {
      print(`the model is in ${model}`);
      return status;
    }
    const settings = set.map((s) => ` --set ${quoted(s)}`).join('');
    const command = again ?? `tstrain --config ${quoted(file)}${settings} --resume`;
    print(
      outcome === 'stopped_and_saved'
        ? `stopped after step ${step}; go on with: ${command}`
        : `stopped ${step === 0 ? 'in the first step' : `after step ${step}`}, without saving`,
    );
    return status;
  } finally {
    signalsNoMore();
    // With the terminal gone, Node's own end would fail to reset it and abort.
    if (status === 128 + constants.signals.SIGHUP) process.kill(process.pid, 'SIGHUP');
  }
}

/** As a shell takes it for one word. */
function quoted(word: string): string {
  return /^[\w./:=,@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
