// Benchmark of the sidecar: CPU of scraping 100 servers, each with a real vLLM page, through two transports.
//
//   npm run bench -- sidecar
//
// Ours (sidecar/scrape/page-client.ts) against undici, in the same sidecar and the same run; and ours at the
// default interval, with every server loaded and with every server idle. Servers and control listener run in
// a child process so that the CPU measured is the sidecar's alone. One core = 1.0.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Client } from "undici";
import { Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import type { PoolSettings, Settings } from "../../sidecar/config/settings.ts";
import type { TransportFactory } from "../../sidecar/endpoint-monitor.ts";
import { ConnectionError, type SidecarError } from "../../sidecar/errors.ts";
import { makeLogger } from "../../sidecar/log.ts";
import type { PageSink, PageTarget, PageTransport } from "../../sidecar/scrape/page-client.ts";
import { benchOptions } from "./support/options.ts";
import { median, printFigures, printHead, type Target } from "./support/report.ts";

const SERVERS = 100;
const WARM_UP_MS = 1_500;
const FAST_INTERVAL_MS = 50;
const PAGE_FILE = fileURLToPath(new URL("../test/fixtures/metrics/vllm-0.32.txt", import.meta.url));

/** The transport to compare with: one undici client a target, the body as one buffer. */
class UndiciTransport implements PageTransport {
  busy = false;
  private readonly client: Client;
  private readonly headers: Record<string, string>;
  private fetchCount = 0;

  constructor(
    private readonly target: PageTarget,
    private readonly sink: PageSink,
  ) {
    this.client = new Client(`http://${target.host}:${target.port}`, { pipelining: 1 });
    this.headers = { accept: target.accept };
  }

  fetch(): void {
    this.busy = true;
    this.fetchCount += 1;
    const current = this.fetchCount;
    this.load().then(
      ([status, body]) => this.settle(current, () => this.sink.onPage(status, body)),
      (error: unknown) =>
        this.settle(current, () => this.sink.onFailure(new ConnectionError(this.target.path, error))),
    );
  }

  abort(error: SidecarError): void {
    this.settle(this.fetchCount, () => this.sink.onFailure(error));
  }

  close(): void {
    this.fetchCount += 1;
    this.busy = false;
    void this.client.destroy();
  }

  private async load(): Promise<[number, Buffer]> {
    const { path } = this.target;
    const { statusCode, body } = await this.client.request({ path, method: "GET", headers: this.headers });
    return [statusCode, Buffer.from(await body.arrayBuffer())];
  }

  private settle(fetchCount: number, report: () => void): void {
    if (!this.busy || fetchCount !== this.fetchCount) return;
    this.busy = false;
    report();
  }
}

/** What the child process tells when it is ready, and how it is told what to serve. */
interface Ready {
  readonly ports: readonly number[];
}

/**
 * The child: servers that answer with the page, token counters rising, and a control listener that accepts.
 */
async function serve(socketPath: string): Promise<void> {
  const busyPage = readFileSync(PAGE_FILE);
  const idlePage = Buffer.from(
    busyPage.toString("latin1").replace(/^(vllm:num_requests_(?:running|waiting)\{.*\}) .*$/gm, "$1 0.0"),
    "latin1",
  );
  let idle = false;
  process.on("message", (message: { idle: boolean }) => {
    idle = message.idle;
  });
  const ports = await Promise.all(
    Array.from({ length: SERVERS }, () => servePage(busyPage, idlePage, () => idle)),
  );
  const control = createHttpServer((request, response) => {
    request.resume().once("end", () => response.writeHead(204).end());
  });
  control.listen(socketPath);
  await once(control, "listening");
  process.send!({ ports } satisfies Ready);
}

async function servePage(busyPage: Buffer, idlePage: Buffer, idle: () => boolean): Promise<number> {
  const busy = withCounter(busyPage);
  const quiet = withCounter(idlePage);
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.on("error", () => socket.destroy());
    socket.on("data", () => {
      if (!idle()) busy.advance();
      socket.write(idle() ? quiet.response : busy.response);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

/** A whole response whose token counter can be raised in place, so that serving costs next to nothing. */
function withCounter(page: Buffer): { response: Buffer; advance(): void } {
  const counter = /^vllm:generation_tokens_total\{.*\} /m.exec(page.toString("latin1"))!;
  const at = counter.index + counter[0].length;
  const lineEnd = page.indexOf("\n", at);
  const body = Buffer.concat([page.subarray(0, at), Buffer.from("1000000000.0"), page.subarray(lineEnd)]);
  const head = [
    "HTTP/1.1 200 OK",
    "date: Sun, 01 Mar 2026 00:00:00 GMT",
    "server: uvicorn",
    `content-length: ${body.length}`,
    "content-type: text/plain; version=1.0.0; charset=utf-8",
    "\r\n",
  ].join("\r\n");
  const response = Buffer.concat([Buffer.from(head), body]);
  let value = 1_000_000_000;
  return {
    response,
    advance: () => {
      value += 1;
      response.write(String(value), head.length + at, 10, "latin1");
    },
  };
}

/** One way to run the sidecar. */
interface Case {
  readonly name: string;
  readonly intervalMs: number | null;
  readonly idle: boolean;
  readonly makeTransport?: TransportFactory;
  /** Bound of the CPU, in cores. */
  readonly target?: Target;
}

/** One window of one case. */
interface Sample {
  readonly cores: number;
  readonly scrapesPerSecond: number;
  readonly pushesPerSecond: number;
}

async function measure(settings: Settings, benchmark: Case, windowMs: number): Promise<Sample> {
  const pools: PoolSettings[] = settings.pools.map((pool) => ({
    ...pool,
    scrape: { ...pool.scrape, intervalMs: benchmark.intervalMs },
  }));
  const sidecar = new Sidecar(
    { ...settings, pools },
    {
      log: makeLogger("silent"),
      ...(benchmark.makeTransport === undefined ? {} : { makeTransport: benchmark.makeTransport }),
    },
  );
  await sidecar.start();
  await new Promise((resolve) => setTimeout(resolve, WARM_UP_MS));
  const before = counts(sidecar);
  const cpu = process.cpuUsage();
  const startedAt = performance.now();
  await new Promise((resolve) => setTimeout(resolve, windowMs));
  const used = process.cpuUsage(cpu);
  const seconds = (performance.now() - startedAt) / 1_000;
  const after = counts(sidecar);
  await sidecar.stop();
  if (after.failed > 0) throw new Error(`${benchmark.name}: ${after.failed} scrapes failed`);
  return {
    cores: (used.user + used.system) / 1e6 / seconds,
    scrapesPerSecond: (after.scrapes - before.scrapes) / seconds,
    pushesPerSecond: (after.pushes - before.pushes) / seconds,
  };
}

function counts(sidecar: Sidecar): { scrapes: number; failed: number; pushes: number } {
  let scrapes = 0;
  let failed = 0;
  for (const pool of sidecar.pools) {
    for (const monitor of pool.monitors.values()) {
      scrapes += monitor.poller.counts.succeeded;
      failed += monitor.poller.counts.failed;
    }
  }
  return {
    scrapes,
    failed,
    pushes: sidecar.pushers.reduce((sum, { counts: { accepted } }) => sum + accepted, 0),
  };
}

function report(benchmark: Case, samples: readonly Sample[]): void {
  const cores = samples.map((sample) => sample.cores);
  const scrapes = samples.map((sample) => sample.scrapesPerSecond);
  if (median(scrapes) === 0) throw new Error(`${benchmark.name}: nothing was scraped`);
  printFigures(benchmark.name, [
    { name: "CPU", unit: "cores", values: cores, target: benchmark.target },
    { name: "CPU a scrape", unit: "µs", values: cores.map((share, i) => (share * 1e6) / scrapes[i]!) },
    { name: "scrapes", unit: "a second", values: scrapes },
    { name: "pushes", unit: "a second", values: samples.map((sample) => sample.pushesPerSecond) },
  ]);
}

async function main(): Promise<void> {
  const options = benchOptions("sidecar", { rounds: 5, seconds: 4 });
  await printHead("The sidecar's CPU, scraping at a fixed rate and at its own pace", {
    command: options.command,
    rounds: `${options.rounds} of each, ${options.seconds} s, in turns`,
    servers: `${SERVERS} on loopback, each with a page of ${readFileSync(PAGE_FILE).length} bytes`,
  });
  const folder = mkdtempSync(join(tmpdir(), "epp-sidecar-bench-"));
  const socketPath = join(folder, "control.sock");
  const child: ChildProcess = fork(fileURLToPath(import.meta.url), ["--serve", socketPath]);
  try {
    const [{ ports }] = (await once(child, "message")) as [Ready];
    const endpoints = ports.map((port) => `127.0.0.1:${port}`).join(",");
    const settings = loadSettings({ endpoints, control: `unix:${socketPath}`, logLevel: "silent" }, {});
    const cases: Case[] = [
      { name: "20 Hz, own client", intervalMs: FAST_INTERVAL_MS, idle: false, target: { atMost: 0.5 } },
      {
        name: "20 Hz, undici",
        intervalMs: FAST_INTERVAL_MS,
        idle: false,
        makeTransport: (target, sink) => new UndiciTransport(target, sink),
      },
      {
        name: "default interval, all servers loaded",
        intervalMs: null,
        idle: false,
        target: { atMost: 0.15 },
      },
      { name: "default interval, all servers idle", intervalMs: null, idle: true, target: { atMost: 0.15 } },
    ];
    const samples = cases.map((): Sample[] => []);
    for (let round = 0; round < options.rounds; round++) {
      for (const [index, benchmark] of cases.entries()) {
        child.send({ idle: benchmark.idle });
        samples[index]!.push(await measure(settings, benchmark, options.seconds * 1000));
      }
    }
    for (const [index, benchmark] of cases.entries()) report(benchmark, samples[index]!);
  } finally {
    child.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[2] === "--serve") await serve(process.argv[3]!);
else await main();
