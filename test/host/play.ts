// Plays recorded scenarios on host-sim: the codec frames are those that Envoy's HTTP/1.1 codec delivers.
import {
  createHost,
  type LogLine,
  type PluginInput,
  type ProxyWasmHost,
  type Stream,
  VirtualClock,
} from "../../host-sim/host/index.ts";
import {
  CLUSTER,
  DEAD_CLUSTER,
  EMPTY_CLUSTER,
  FILTER_METADATA,
  LISTENERS,
  ROUTE_METADATA,
  ROUTE_NAME,
  type ProbeListener,
} from "./listeners.ts";
import { probeWasm } from "./probe.ts";
import {
  NO_STREAM,
  ownHeaders,
  shortBody,
  type Scenario,
  type ScenarioOutcome,
  type Step,
  type StreamOutcome,
  type UpstreamReply,
} from "./scenario.ts";

/** Time between two frames of one side, ms. */
const GAP_MS = 1;
/** How long the upstream takes over a call to /late, ms. */
const LATE_MS = 150;
/** Drain time of a changed listener, ms. */
const DRAIN_MS = 1_000;
/** How long `await` waits at most, ms of virtual time. */
const AWAIT_MS = 10_000;

const PSEUDO_HEADERS = { ":method": "POST", ":path": "/probe", ":authority": "probe", ":scheme": "http" };

interface Playing {
  readonly name: string;
  readonly stream: Stream;
  readonly reply: UpstreamReply;
  readonly http2: boolean;
  answered: boolean;
}

function pluginOf(listener: ProbeListener): PluginInput {
  return {
    name: listener.name,
    rootId: listener.name,
    vmId: listener.vm ?? listener.name,
    configuration: listener.configuration ?? "",
    vmConfiguration: listener.vmConfiguration ?? "",
    failurePolicy: listener.policy ?? "closed",
    allowOnHeadersStopIteration: listener.stop,
    environment: listener.environment ?? {},
  };
}

/** host-sim with every probe listener, and the lines the probe logged. */
export class SimulatedProxy {
  readonly lines: LogLine[] = [];
  readonly clock = new VirtualClock();
  private host!: ProxyWasmHost;
  private readonly playing = new Map<string, Playing>();

  static async start(listeners: readonly ProbeListener[] = LISTENERS): Promise<SimulatedProxy> {
    const proxy = new SimulatedProxy();
    proxy.host = await createHost({
      module: await probeWasm(),
      workers: 1,
      clock: proxy.clock,
      onLog: (line) => proxy.lines.push(line),
      clusters: {
        [CLUSTER]: (call) => {
          const path = call.headers.get(":path") ?? "";
          if (path === "/silent") return;
          const answer = (): void =>
            call.respond(200, { "x-t-reply": path }, `called ${call.body.toString()}`);
          if (path === "/late") proxy.clock.after(LATE_MS, answer);
          else answer();
        },
        [DEAD_CLUSTER]: (call) => call.refuse(),
        [EMPTY_CLUSTER]: null,
      },
      plugins: listeners.map(pluginOf),
    });
    return proxy;
  }

  /** Updates a listener; the old root drains for a second and goes. */
  async update(listener: ProbeListener): Promise<void> {
    const retire = await this.host.updatePlugin(pluginOf(listener));
    this.clock.after(DRAIN_MS, retire);
  }

  /** Plays the steps and returns what each stream came to. */
  play(scenario: Scenario): ScenarioOutcome {
    this.playing.clear();
    const first = this.lines.length;
    for (const step of scenario.steps) this.step(scenario, step);
    const outcome: ScenarioOutcome = {};
    for (const { name, stream } of this.playing.values()) {
      outcome[name] = this.outcome(name, stream, this.lines.slice(first));
    }
    if (scenario.watch !== undefined) outcome[scenario.watch] = this.rootOutcome(scenario.watch, first);
    return outcome;
  }

  /** Lines of a root context since line `first`, on all threads in order. */
  rootOutcome(tag: string, first = 0): StreamOutcome {
    const prefix = `${tag} `;
    const lines = this.lines.slice(first).filter((line) => line.text.startsWith(prefix));
    return { ...NO_STREAM, log: lines.map((line) => line.text.slice(prefix.length)) };
  }

  private step(scenario: Scenario, step: Step): void {
    if ("open" in step) this.open(scenario, step);
    else if ("data" in step) this.at(step.data).requestBody(step.text, step.last === true);
    else if ("end" in step) {
      const stream = this.at(step.end);
      if (step.trailers !== undefined) stream.requestTrailers(step.trailers);
      else stream.requestBody("", true);
    } else if ("abort" in step) this.abort(step.abort);
    else if ("answeredEarlier" in step) this.answeredEarlier(scenario, step);
    else if ("await" in step) this.await(step.await);
    else this.pass(step.sleepMs);
    this.pass(GAP_MS);
  }

  private abort(name: string): void {
    const { stream, http2 } = this.playing.get(name) as Playing;
    stream.reset(http2 ? "stream" : "connection");
  }

  private at(name: string): Stream {
    return (this.playing.get(name) as Playing).stream;
  }

  private answeredEarlier(scenario: Scenario, step: Extract<Step, { answeredEarlier: string }>): void {
    const tag = step.answeredEarlier;
    const stream = this.host.worker(0).openStream(scenario.listener);
    this.playing.set(tag, { name: tag, stream, reply: {}, http2: false, answered: true });
    const headers = { ...PSEUDO_HEADERS, "x-tag": tag, "x-probe": step.script };
    stream.answeredByEarlierFilter(headers, step.status, "fault filter abort");
  }

  private open(scenario: Scenario, step: Extract<Step, { open: string }>): void {
    const name = step.on ?? scenario.listener;
    const listener = LISTENERS.find((one) => one.name === name) as ProbeListener;
    const stream = this.host.worker(0).openStream(name, {
      clusterName: CLUSTER,
      routeName: ROUTE_NAME,
      routeMetadata: ROUTE_METADATA,
      filterMetadata: FILTER_METADATA,
      protocol: step.http2 === true ? "HTTP/2" : "HTTP/1.1",
      ...(listener.bufferLimitBytes === undefined ? {} : { bufferLimitBytes: listener.bufferLimitBytes }),
    });
    this.playing.set(step.open, {
      name: step.open,
      stream,
      reply: step.reply ?? {},
      http2: step.http2 === true,
      answered: false,
    });
    stream.requestHeaders(
      { ...PSEUDO_HEADERS, "x-tag": step.open, "x-probe": step.script, ...step.headers },
      step.end ?? false,
    );
  }

  private await(name: string): void {
    for (let waited = 0; waited < AWAIT_MS && !this.at(name).closed; waited++) this.pass(1);
  }

  private pass(ms: number): void {
    for (let left = ms; left > 0; left--) {
      this.clock.advance(1);
      this.answer();
    }
  }

  /** Lets the upstream answer every stream whose request it has. */
  private answer(): void {
    for (const one of this.playing.values()) {
      const { stream, reply } = one;
      const due =
        stream.upstream?.ended === true || (reply.early === true && stream.upstream?.headerMap !== null);
      if (one.answered || stream.closed || !due || reply.silent === true) continue;
      one.answered = true;
      stream.info.upstreamAddress = "127.0.0.1:1";
      stream.info.attemptCount = 1;
      this.respond(stream, reply);
    }
  }

  private respond(stream: Stream, reply: UpstreamReply): void {
    if (reply.reset === "before") {
      stream.upstreamReset();
      return;
    }
    const body = reply.body ?? [];
    const only = body.length === 0 && reply.trailers === undefined;
    const headers: Record<string, string> = { ":status": String(reply.status ?? 200), ...reply.headers };
    stream.responseHeaders(headers, only);
    if (only) return;
    for (const piece of body) {
      stream.responseBody(piece);
      if (reply.reset === "after-first-piece") {
        stream.upstreamReset();
        return;
      }
      this.clock.advance(GAP_MS);
    }
    if (reply.trailers !== undefined) stream.responseTrailers(reply.trailers);
    else stream.responseBody("", true);
  }

  private outcome(name: string, stream: Stream, lines: readonly LogLine[]): StreamOutcome {
    const { upstream, downstream } = stream;
    if (upstream === null || downstream === null) throw new TypeError("the player records both sides");
    const forwarded = upstream.headerMap;
    return {
      log: lines
        .filter((line) => line.text.startsWith(`${name} `))
        .map((line) => line.text.slice(name.length + 1)),
      upstream:
        forwarded === null
          ? null
          : {
              headers: ownHeaders(forwarded.toObject()),
              body: shortBody(upstream.body().toString("latin1")),
              trailers: ownHeaders(upstream.trailerMap?.toObject() ?? {}),
            },
      client: {
        status: downstream.status,
        headers: ownHeaders(downstream.headerMap?.toObject() ?? {}),
        body: shortBody(downstream.body().toString("latin1")),
        trailers: ownHeaders(downstream.trailerMap?.toObject() ?? {}),
        complete: downstream.ended,
      },
    };
  }
}
