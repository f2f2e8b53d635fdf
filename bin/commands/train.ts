import { constants } from 'node:os';
import { loadConfig } from '../config.js';
import { runTraining } from '../train/run.js';

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
 * second one, or one before the first step, stops at once, that is at the next micro-batch. A run whose output goes
 * into a file or a pipe goes on when the terminal ends, as nohup wants it (Node hides from it whether there was a
 * nohup), and also when nobody reads the pipe any more: metrics.jsonl is its record.
 *
 * @returns the exit status; of a stopped run 128 and the number of the signal, as of a command that it has ended
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
  let say: ((line: string) => void) | undefined;
  let stop: 'after_step' | 'now' | undefined;
  let stoppedAt = Number.NEGATIVE_INFINITY;
  let status = 0;
  const onSignal = (signal: NodeJS.Signals) => {
    if (signal === 'SIGHUP' && (!screen.isTTY || stop !== undefined)) return;
    if (performance.now() - stoppedAt < SAME_SIGNAL_MS) return;
    stoppedAt = performance.now();
    status = 128 + constants.signals[signal];
    // Reading data is left at any point: only a step has something to finish.
    if (say === undefined) process.exit(status);
    stop = stop === undefined ? 'after_step' : 'now';
    say(stop === 'now' ? 'stopping at once' : 'finishing this step, then saving; once more stops at once');
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  screen.removeAllListeners('error').on('error', () => {});
  try {
    const { end, step } = await runTraining({
      file,
      config,
      resume,
      replace,
      screen,
      stopRequested: () => stop,
      onTraining: (line) => {
        say = line;
      },
    });
    if (end === 'finished') return 0;
    const settings = set.map((s) => ` --set ${quoted(s)}`).join('');
    const command = again ?? `tstrain --config ${quoted(file)}${settings} --resume`;
    screen.write(
      end === 'stopped_and_saved'
        ? `stopped after step ${step}; go on with: ${command}\n`
        : `stopped ${step === 0 ? 'in the first step' : `after step ${step}`}, without saving\n`,
    );
    return status;
  } finally {
    for (const signal of SIGNALS) process.off(signal, onSignal);
    // With the terminal gone, Node's own end would fail to reset it and abort.
    if (status === 128 + constants.signals.SIGHUP) process.kill(process.pid, 'SIGHUP');
  }
}

/** As a shell takes it for one word. */
function quoted(word: string): string {
  return /^[\w./:=,@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
