// Tells a person how far something is: one line that changes on a terminal, a line now and then elsewhere.

/** Where lines go; process.stdout is one. */
export interface Terminal {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** Between two lines of one task when the output is no terminal. */
const QUIET_MS = 10_000;

/** Prints lines and the progress of one task at a time. */
export class Progress {
  private readonly out: Terminal;
  private readonly clock: () => number;
  private open = false;
  private saidAtMs = Number.NEGATIVE_INFINITY;

  constructor(out: Terminal, clock: () => number = () => performance.now()) {
    this.out = out;
    this.clock = clock;
  }

  /** A line that stays. */
  line(text: string): void {
    this.clear();
    this.out.write(`${text}\n`);
  }

  /** State of the current task; replaces the one before. */
  update(text: string): void {
    if (this.out.isTTY === true) {
      this.out.write(`\r\x1b[K${text}`);
      this.open = true;
      return;
    }
    const nowMs = this.clock();
    if (nowMs - this.saidAtMs < QUIET_MS) return;
    this.saidAtMs = nowMs;
    this.out.write(`${text}\n`);
  }

  private clear(): void {
    if (this.open) this.out.write("\r\x1b[K");
    this.open = false;
    this.saidAtMs = Number.NEGATIVE_INFINITY;
  }
}
