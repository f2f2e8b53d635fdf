import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** A process that speaks the protocol of protocol.ts; see there. */
export class Contender<R, Ready> {
  private constructor(
    private readonly child: ChildProcess,
    private readonly next: () => Promise<unknown>,
    readonly ready: Ready,
  ) {}

  /**
   * Starts the process and waits until it has warmed up. Its standard error goes to `log`.
   *
   * @throws Error when it ends before; the message holds the last line it wrote to standard error
   */
  static async start<R, Ready>(
    command: string,
    args: readonly string[],
    env: NodeJS.ProcessEnv,
    log: string,
  ): Promise<Contender<R, Ready>> {
    const stderr = openSync(log, 'w');
    const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', stderr] });
    closeSync(stderr);
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('close', (code, signal) => resolve(signal ? `ended by ${signal}` : `exit status ${code}`));
    });
    // A process that has died is noticed when it does not answer; the pipe to it must not throw before.
    child.stdin!.on('error', () => {});
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    const next = async (): Promise<unknown> => {
      for (;;) {
        const { value, done } = await lines.next();
        if (done) throw new Error(`${await ended}: ${lastLine(log)} (${log})`);
        if (value.startsWith('{')) return JSON.parse(value);
      }
    };
    return new Contender<R, Ready>(child, next, (await next()) as Ready);
  }

  /** One timed round. */
  async round(): Promise<R> {
    this.child.stdin!.write('\n');
    return (await this.next()) as R;
  }

  /** Lets the process end. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const closed = new Promise((resolve) => this.child.once('close', resolve));
    this.child.stdin!.end();
    await closed;
  }
}

function lastLine(log: string): string {
  return readFileSync(log, 'utf8').trim().split('\n').at(-1) || 'it said nothing';
}
