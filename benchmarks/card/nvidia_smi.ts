import { type ChildProcess, spawn, spawnSync } from 'node:child_process';

// What nvidia-smi, which comes with the driver, tells of a card: what it is, and its clocks while it works.

const FACTS = [
  'name',
  'driver_version',
  'vbios_version',
  'pstate',
  'persistence_mode',
  'mig.mode.current',
  'ecc.mode.current',
  'power.limit',
  'clocks.max.sm',
  'clocks.max.memory',
  'pcie.link.gen.max',
  'pcie.link.width.max',
];
const LOGGED = ['clocks.sm', 'clocks.mem', 'power.draw', 'temperature.gpu', 'utilization.gpu', 'memory.used'];
// Its name in newer drivers is clocks_event_reasons.active; they still know this one.
const REASONS = 'clocks_throttle_reasons.active';
/** Bits of the reasons, as NVML names them; the first two (idle, clocks set by an application) slow nothing down unasked. */
const SLOWDOWNS: Record<number, string> = {
  4: 'power cap',
  8: 'hardware slowdown',
  16: 'sync boost',
  32: 'software thermal',
  64: 'hardware thermal',
  128: 'power brake',
};

function query(fields: readonly string[], ...more: string[]): string[] {
  return [`--query-gpu=${fields.join(',')}`, '--format=csv,noheader,nounits', '--id=0', ...more];
}

/** By the names of nvidia-smi, or why there are none. */
export function cardFacts(): Record<string, string> | { missing: string } {
  const { status, stdout, stderr, error } = spawnSync('nvidia-smi', query(FACTS), { encoding: 'utf8' });
  if (error) return { missing: `nvidia-smi: ${error.message}` };
  if (status !== 0) return { missing: `nvidia-smi: ${(stdout + stderr).trim().split('\n')[0]}` };
  const values = stdout.trim().split(', ');
  return Object.fromEntries(FACTS.map((name, i) => [name, values[i]]));
}

export interface ClockLine {
  /** Seconds since the log began. */
  at: number;
  [field: string]: number | string;
}

/** A line a second, until it is stopped. */
export class ClockLog {
  readonly lines: ClockLine[] = [];
  private readonly child: ChildProcess;

  constructor() {
    const start = performance.now();
    const options = query([...LOGGED, REASONS], '--loop=1');
    this.child = spawn('nvidia-smi', options, { stdio: ['ignore', 'pipe', 'ignore'] });
    this.child.on('error', () => {});
    let text = '';
    this.child.stdout!.setEncoding('utf8').on('data', (piece) => {
      const whole = (text + piece).split('\n');
      text = whole.pop()!;
      const at = Math.round((performance.now() - start) / 100) / 10;
      for (const line of whole) this.lines.push(clockLine(at, line));
    });
  }

  stop(): void {
    // Node would kill its own group in place of a program that is not there.
    if (this.child.pid !== undefined) this.child.kill();
  }
}

export function clockLine(at: number, text: string): ClockLine {
  const values = text.split(', ');
  const line: ClockLine = { at, reasons: values[LOGGED.length] };
  LOGGED.forEach((name, i) => {
    line[name] = Number(values[i]);
  });
  return line;
}

/** The log in a few words: clocks while the card worked, the most power, and what slowed it down. */
export function describeClocks(lines: readonly ClockLine[]): string {
  const busy = lines.filter((line) => Number(line['utilization.gpu']) >= 50);
  if (busy.length === 0) return 'the card was never seen at work';
  const sm = busy.map((line) => Number(line['clocks.sm']));
  const power = Math.max(...busy.map((line) => Number(line['power.draw'])));
  const bits = busy.reduce((all, line) => all | Number(line.reasons), 0);
  const slow = Object.entries(SLOWDOWNS).filter(([bit]) => bits & Number(bit));
  const reasons = slow.map(([, name]) => name).join(', ') || 'by nothing';
  return `SM ${Math.min(...sm)} to ${Math.max(...sm)} MHz at work, at most ${power.toFixed(0)} W; slowed down: ${reasons}`;
}
