import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cli } from './cli.js';
import { RunDirectory } from './tiny_run.js';

// What `npm start` does, whole: minutes of training, so only when asked for.
describe.skipIf(!process.env.TSTRAIN_LONG_TESTS)('with TSTRAIN_LONG_TESTS=1', () => {
  let cli: Cli;
  let directory: RunDirectory;
  beforeAll(async () => {
    cli = await Cli.compile();
    directory = new RunDirectory();
  });
  afterAll(() => {
    cli.remove();
    directory.remove();
  });

  it('the quickstart learns its skills, and answers what it was never shown', async () => {
    const { status, stdout, stderr } = await cli.run(directory.path, 'quickstart');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const [, before] = /^before training: ([\d.]+) % of 320 held-out/.exec(stdout)!;
    expect(Number(before)).toBeLessThan(5);
    const rates = [...stdout.matchAll(/^ {2}(\w+) +([\d.]+) % of (\d+)$/gm)];
    expect(rates.map(([, skill]) => skill)).toEqual([
      'copy',
      'capitals',
      'reverse',
      'letter_count',
      'first_letter',
      'last_letter',
      'opposite',
      'sum',
      'all',
    ]);
    for (const [, skill, rate] of rates)
      expect(Number(rate), skill).toBeGreaterThanOrEqual(skill === 'all' ? 90 : 75);
    const losses = directory.metrics('out/quickstart').filter((line) => 'loss' in line);
    expect(losses.at(-1)!.loss).toBeLessThan(0.02 * losses[0].loss);
  }, 1_200_000);

  it('starts anew when it was finished', async () => {
    const run = cli.start(directory.path, ['quickstart']);
    expect(await run.printed(/step 50\//)).toBe(true);
    run.signal('SIGINT');
    const { status, stdout } = await run.ended;
    expect(status).toBe(130);
    expect(stdout).toMatch(/stopped after step \d+; go on with: npx tstrain quickstart\n$/);
  }, 300_000);
});
