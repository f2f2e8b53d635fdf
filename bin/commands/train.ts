import { loadConfig } from '../config.js';
import { runTraining } from '../train/run.js';

export interface TrainRequest {
  config: string;
  resume: boolean;
  set: readonly string[];
}

/**
 * `tstrain --config FILE`. The first Ctrl-C (or SIGTERM) finishes the step and saves; a second one, or one before the
 * first step, stops at once, that is at the next micro-batch. A stopped run exits with 130, as a shell expects of an
 * interrupted command.
 */
export async function trainCommand({ config: file, resume, set }: TrainRequest): Promise<number> {
  const config = loadConfig(file, set);
  const screen = process.stdout;
  let stop: 'after_step' | 'now' | undefined;
  let training = false;
  const onSignal = () => {
    // Reading data is left at any point: only a step has something to finish.
    if (!training) process.exit(130);
    stop = stop === undefined ? 'after_step' : 'now';
    screen.write(
      stop === 'now'
        ? '\nstopping at once; the work since the last checkpoint is lost\n'
        : '\nfinishing this step, then saving; once more stops at once\n',
    );
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    const { end, step } = await runTraining({
      file,
      config,
      resume,
      screen,
      stopRequested: () => stop,
      onTraining: () => {
        training = true;
      },
    });
    if (end === 'finished') return 0;
    const settings = set.map((s) => ` --set ${quoted(s)}`).join('');
    screen.write(
      end === 'stopped_and_saved'
        ? `stopped after step ${step}; go on with: tstrain --config ${quoted(file)}${settings} --resume\n`
        : `stopped ${step === 0 ? 'in the first step' : `after step ${step}`}, without saving\n`,
    );
    return 130;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

/** As a shell takes it for one word. */
function quoted(word: string): string {
  return /^[\w./:=,@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
