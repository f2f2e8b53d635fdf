#!/usr/bin/env node
import { fileError } from '../errors.js';
import { main } from './main.js';

// `tstrain tokenize … | head` closes the pipe early; that is no failure. (Training goes on without a screen.)
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  console.error(
    `tstrain: ${(fileError(error, 'standard output', 'nothing more was written') as Error).message}`,
  );
  process.exit(1);
});
// Node's answer would be a debugger that listens; a scheduler sends it to warn of the end of a job's time.
process.on('SIGUSR1', () => {});
// There is nobody left to tell.
process.stderr.on('error', () => {});

const status = await main(process.argv.slice(2));
// Workers or timers of a command that failed must not keep the process alive.
if (status !== 0) process.exit(status);
