import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addon } from '../../engine/device/addon.js';
import { currentCommit, describeMachine } from '../machine.js';
import { ClockLog, cardFacts, describeClocks } from './nvidia_smi.js';
import { type Answer, PARTS, stopAll } from './questions.js';

// `scripts/card.sh a|b|c [DIRECTORY]`: everything that a card must be asked. Each part ends with a table, and writes all
// that was answered into DIRECTORY, $OUT or ./card-results, anew after each question: what stops it loses one answer.

/** Seconds for a part: what calls it may well end it after ten minutes. */
const LIMIT = 520;

interface Asked {
  name: string;
  seconds: number;
  answer: Answer;
}

async function main(part: string, directory: string): Promise<number> {
  const questions = PARTS[part];
  if (questions === undefined) {
    console.error(`card.sh: expected ${Object.keys(PARTS).join(', ')}, not "${part}"`);
    return 2;
  }
  const cuda = addon.cuda();
  if (cuda.missing !== '') {
    console.error(`card.sh: there is no card to ask: ${cuda.missing}`);
    return 1;
  }

  const start = performance.now();
  const passed = () => (performance.now() - start) / 1000;
  const scratch = mkdtempSync(join(tmpdir(), 'tstrain-card-'));
  const about = {
    date: new Date().toISOString(),
    commit: currentCommit(),
    machine: describeMachine(),
    part,
    cuda,
    nvidia_smi: cardFacts(),
  };
  const name = [about.date.slice(0, 10), ...cuda.card.toLowerCase().match(/[a-z0-9]+/g)!, 'card', part].join(
    '-',
  );
  const file = join(directory, `${name}.json`);
  mkdirSync(directory, { recursive: true });
  const clocks = new ClockLog();
  const asked: Asked[] = [];
  const simulated = cuda.card.startsWith('cudasim');
  const store = () =>
    writeFileSync(file, `${JSON.stringify({ ...about, asked, clocks: clocks.lines }, null, 1)}\n`);
  try {
    for (const question of questions) {
      console.log(`${passed().toFixed(0).padStart(4)} s  ${question.name}`);
      const before = passed();
      const seconds = Math.min(question.limit, LIMIT - before);
      const answer: Answer =
        seconds > 0 ? await question.ask({ seconds, scratch, simulated }) : { leftOut: 'no time was left' };
      asked.push({ name: question.name, seconds: Math.round((passed() - before) * 10) / 10, answer });
      store();
    }
  } finally {
    clocks.stop();
    rmSync(scratch, { recursive: true, force: true });
  }

  const driver =
    'missing' in about.nvidia_smi ? about.nvidia_smi.missing : `driver ${about.nvidia_smi.driver_version}`;
  console.log(`\n${cuda.card}, CUDA ${cuda.driverVersion}, ${driver}, commit ${about.commit.slice(0, 9)}`);
  for (const { name, seconds, answer } of asked) {
    const words = 'leftOut' in answer ? `left out: ${answer.leftOut}` : answer.said;
    console.log(`${name.padEnd(37)} ${seconds.toFixed(1).padStart(6)} s  ${words}`);
  }
  console.log(`${'clocks'.padEnd(47)}${describeClocks(clocks.lines)}`);
  console.log(`all of it: ${file}`);
  return asked.some(({ answer }) => 'wrong' in answer && answer.wrong) ? 1 : 0;
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
  process.once(signal, () => {
    stopAll();
    process.exit(1);
  });
const [, , part = '', directory = process.env.OUT ?? 'card-results'] = process.argv;
process.exitCode = await main(part, directory);
