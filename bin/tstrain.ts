#!/usr/bin/env node
import { main } from './main.js';

// `tstrain tokenize … | head` closes the pipe early; that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const status = await main(process.argv.slice(2));
// Workers or timers of a command that failed must not keep the process alive.
if (status !== 0) process.exit(status);
