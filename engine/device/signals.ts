import { constants } from 'node:os';
import { addon } from './addon.js';

/**
 * Calls `handler` for each of these signals that comes, at the latest when the op is done that runs meanwhile: the event
 * loop alone would bring it after the micro-batch. Then, if an op was running, `goOn` is called; what it throws, the op
 * throws.
 *
 * @returns what ends this
 */
export function onSignals(
  signals: readonly NodeJS.Signals[],
  handler: (signal: NodeJS.Signals) => void,
  goOn: () => void,
): () => void {
  const names = new Map(signals.map((signal) => [constants.signals[signal] as number, signal]));
  // The event loop comes to a signal that was heard within an op once more, when it is taken.
  const hear = () => {
    for (const number of addon.takeSignals()) handler(names.get(number)!);
  };
  for (const signal of signals) process.on(signal, hear);
  addon.watchSignals([...names.keys()], () => {
    hear();
    goOn();
  });
  return () => {
    addon.watchSignals([], () => {});
    for (const signal of signals) process.off(signal, hear);
  };
}
