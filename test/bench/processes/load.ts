// The load process: requests over raw keep-alive sockets from preassembled buffers, so that the client is cheap.
import { connect, type Socket } from "node:net";
import { type Body, makeBodies, setTurn, type BodySize } from "../support/bodies.ts";
import { CHUNKS_HEADER, type LoadResult, type LoadTask } from "../support/messages.ts";
import { quantile } from "../support/report.ts";

const READ_BYTES = 65_536;
const HEADERS_END = "\r\n\r\n";
/** The last chunk of a chunked answer. */
const CHUNKED_END = Buffer.from("\r\n0\r\n\r\n");
const PATH = "/v1/chat/completions";
/** How long answers that are still due when an open loop's time is over are waited for. */
const DRAIN_MS = 2_000;

/** A request as it goes over the wire; its turn is made new each time. */
interface Job {
  readonly wire: Buffer;
  readonly turnAt: number;
}

let turn = 0;
let reads = 0;
let errors = 0;
// All sockets may share it: libuv reads and calls back before the next socket's read.
const inbox = Buffer.allocUnsafe(READ_BYTES);

/** Bodies of a size that are not on their way: taken from the front, given back at the end. */
class Pool {
  private readonly jobs: Job[];
  private head = 0;

  constructor(bodies: readonly Body[], chunks: number) {
    this.jobs = bodies.map((body) => assemble(body, chunks));
  }

  take(): Job {
    const job = this.jobs[this.head++]!;
    if (this.head > 4_096 || this.head === this.jobs.length) {
      this.jobs.splice(0, this.head);
      this.head = 0;
    }
    setTurn(job.wire, job.turnAt, ++turn);
    return job;
  }

  give(job: Job): void {
    this.jobs.push(job);
  }
}

function assemble({ bytes, turnAt }: Body, chunks: number): Job {
  const head = [
    `POST ${PATH} HTTP/1.1`,
    "host: gateway.example",
    "content-type: application/json",
    "accept: application/json",
    "user-agent: OpenAI/Python 1.99.1",
    "authorization: Bearer sk-0123456789abcdef0123456789abcdef",
    ...(chunks > 0 ? [`${CHUNKS_HEADER}: ${chunks}`] : []),
    `content-length: ${bytes.length}`,
  ].join("\r\n");
  const headBytes = Buffer.from(head + HEADERS_END);
  return { wire: Buffer.concat([headBytes, bytes]), turnAt: headBytes.length + turnAt };
}

/** One keep-alive connection with at most one request on its way. */
class Connection {
  private readonly socket: Socket;
  private isOpen = true;
  private awaited = false;
  private left = -1;
  private isChunked = false;
  private tail = Buffer.alloc(0);
  private answered: ((ok: boolean) => void) | undefined;
  private ok = false;

  constructor(port: number) {
    const onread = { buffer: inbox, callback: (bytes: number) => this.take(inbox.subarray(0, bytes)) };
    this.socket = connect({ port, host: "127.0.0.1", noDelay: true, onread });
    this.socket.on("error", () => this.fail());
    this.socket.on("close", () => this.fail());
  }

  get isUsable(): boolean {
    return this.isOpen && !this.awaited;
  }

  /** Sends and calls back once the answer is complete, with whether it was a 200. */
  send(wire: Buffer, answered: (ok: boolean) => void): void {
    this.awaited = true;
    this.left = -1;
    this.answered = answered;
    if (this.isOpen) this.socket.write(wire);
    else this.settle(false);
  }

  close(): void {
    this.isOpen = false;
    this.socket.destroy();
  }

  private take(bytes: Buffer): boolean {
    reads++;
    if (!this.awaited) return true;
    if (this.left < 0 && !this.isChunked) this.takeHead(bytes);
    else this.takeBody(bytes);
    return true;
  }

  private takeHead(bytes: Buffer): void {
    const text = bytes.toString("latin1", 0, Math.min(bytes.length, 2_048));
    const end = text.indexOf(HEADERS_END);
    // Envoy writes an answer's headers with one write; a part of them would be a fault of its own.
    if (end < 0) {
      this.fail();
      return;
    }
    this.ok = text.startsWith("HTTP/1.1 200");
    const length = /\r\ncontent-length: (\d+)/i.exec(text);
    this.isChunked = length === null;
    this.left = length === null ? -1 : Number(length[1]);
    const bodyStart = end + HEADERS_END.length;
    this.takeBody(bytes.subarray(bodyStart));
  }

  private takeBody(bytes: Buffer): void {
    if (!this.isChunked) {
      this.left -= bytes.length;
      if (this.left <= 0) this.settle(this.ok);
      return;
    }
    const kept = CHUNKED_END.length;
    this.tail = Buffer.concat([this.tail, bytes.subarray(-kept)]).subarray(-kept);
    if (!this.tail.equals(CHUNKED_END)) return;
    this.tail = Buffer.alloc(0);
    this.isChunked = false;
    this.settle(this.ok);
  }

  private fail(): void {
    this.isOpen = false;
    if (this.awaited) this.settle(false);
  }

  private settle(ok: boolean): void {
    this.awaited = false;
    this.left = -1;
    const { answered } = this;
    this.answered = undefined;
    if (!ok) errors++;
    answered?.(ok);
  }
}

async function closedLoop(task: LoadTask & { kind: "closed" }, pool: Pool): Promise<number[]> {
  const latencies: number[] = [];
  const endAt = performance.now() + task.seconds * 1000;
  const runConnection = (): Promise<void> =>
    new Promise((settle) => {
      let connection = new Connection(task.port);
      const next = (): void => {
        const startedAt = performance.now();
        if (startedAt >= endAt) {
          connection.close();
          settle();
          return;
        }
        const job = pool.take();
        connection.send(job.wire, (ok) => {
          latencies.push(performance.now() - startedAt);
          pool.give(job);
          if (ok) next();
          else {
            connection.close();
            connection = new Connection(task.port);
            setTimeout(next, 10);
          }
        });
      };
      next();
    });
  await Promise.all(Array.from({ length: task.connections }, runConnection));
  return latencies;
}

async function openLoop(task: LoadTask & { kind: "open" }, pool: Pool): Promise<number[]> {
  const latencies: number[] = [];
  const connections: Connection[] = [];
  const startAt = performance.now();
  const total = Math.floor(task.seconds * task.perSecond);
  let due = 0;
  const send = (): void => {
    const at = connections.findIndex((connection) => connection.isUsable);
    const connection = at < 0 ? new Connection(task.port) : connections.splice(at, 1)[0]!;
    // Used in turns: all connections stay warm.
    connections.push(connection);
    const job = pool.take();
    const startedAt = performance.now();
    connection.send(job.wire, () => {
      latencies.push(performance.now() - startedAt);
      pool.give(job);
    });
  };
  await new Promise<void>((settle) => {
    const step = (): void => {
      const elapsed = performance.now() - startAt;
      while (due < total && elapsed >= (due * 1000) / task.perSecond) {
        send();
        due++;
      }
      const isDrained = latencies.length >= total || elapsed > task.seconds * 1000 + DRAIN_MS;
      if (due >= total && isDrained) settle();
      else setTimeout(step, Math.max(0, (due * 1000) / task.perSecond - elapsed));
    };
    step();
  });
  errors += total - latencies.length;
  for (const connection of connections) connection.close();
  return latencies;
}

const bodies = new Map<BodySize, Body[]>();

async function run(task: LoadTask): Promise<LoadResult> {
  const chunks = task.kind === "closed" ? task.chunks : 0;
  const known = bodies.get(task.size) ?? makeBodies(task.size);
  bodies.set(task.size, known);
  const pool = new Pool(known, chunks);
  reads = 0;
  errors = 0;
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  const latencies = task.kind === "closed" ? await closedLoop(task, pool) : await openLoop(task, pool);
  const seconds = (performance.now() - startedAt) / 1000;
  const cpu = process.cpuUsage(cpuBefore);
  return {
    requests: latencies.length,
    errors,
    seconds,
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
    reads,
    utilisation: (cpu.user + cpu.system) / 1e6 / seconds,
  };
}

process.on("message", (task: LoadTask) => {
  run(task).then(
    (result) => process.send!(result),
    (error: unknown) => {
      process.stderr.write(`${String(error)}\n`);
      process.exit(1);
    },
  );
});
process.on("disconnect", () => process.exit(0));
