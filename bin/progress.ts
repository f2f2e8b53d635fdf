import type { EvalLine, TrainLine } from '../engine/train/metrics.js';
import { plainLine } from '../errors.js';

/** A run on a screen: plain lines in a pipe; on a terminal also a bar in the last line. */
export interface Progress {
  say(line: string): void;
  /** The loss as far as it is known. */
  step(done: number, loss: number | undefined): void;
  metrics(line: TrainLine | EvalLine): void;
  /** Takes the bar away. */
  end(): void;
}

interface Screen {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

/** Redraws of the bar are this far apart at least: a small model makes hundreds of steps a second. */
const REDRAW_MS = 100;

/** `firstStep`: the steps already done when a resumed run starts. */
export function makeProgress(
  screen: Screen,
  totalSteps: number,
  firstStep: number,
  now = () => performance.now(),
): Progress {
  const start = now();
  let bar = '';
  let drawnAt = Number.NEGATIVE_INFINITY;
  const draw = (text: string) => {
    if (!screen.isTTY) return;
    screen.write(`\r\x1b[K${text}`);
    bar = text;
  };
  const say = (line: string) => {
    const shown = bar;
    if (shown) draw('');
    screen.write(`${plainLine(line)}\n`);
    if (shown) draw(shown);
  };
  const left = (done: number) => duration(((now() - start) / (done - firstStep)) * (totalSteps - done));
  return {
    say,
    step(done, loss) {
      if (now() - drawnAt < REDRAW_MS && done < totalSteps) return;
      drawnAt = now();
      const width = Math.max(10, Math.min(40, (screen.columns ?? 80) - 50));
      const full = Math.round((width * done) / totalSteps);
      draw(
        `${'█'.repeat(full)}${'░'.repeat(width - full)} ${done}/${totalSteps}  ${loss === undefined ? '' : `loss ${loss.toFixed(4)}  `}${left(done)} left`,
      );
    },
    metrics(line) {
      if ('eval_loss' in line) {
        say(
          `step ${line.step}/${totalSteps}  epoch ${line.epoch.toFixed(2)}  eval_loss ${line.eval_loss.toFixed(4)}`,
        );
        return;
      }
      say(
        `step ${line.step}/${totalSteps}  epoch ${line.epoch.toFixed(2)}  loss ${line.loss.toFixed(4)}  ` +
          `grad_norm ${line.grad_norm.toFixed(3)}  lr ${line.learning_rate.toExponential(2)}  ` +
          `${Math.round(line.tokens_per_second).toLocaleString('en-US')} tokens/s  ${left(line.step)} left`,
      );
    },
    end: () => draw(''),
  };
}

/** 1:05:09, 5:09 or 9 s. */
export function duration(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 60) return `${seconds} s`;
  const two = (n: number) => String(n).padStart(2, '0');
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}
