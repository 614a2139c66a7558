// Short-hands for tests that run the probe on a host of their own.
import {
  createHost,
  VirtualClock,
  type HostOptions,
  type HostThread,
  type LogLine,
  type PluginInput,
  type ProxyWasmHost,
  type Stream,
  type StreamOptions,
} from "../../host-sim/host/index.ts";
import { probeWasm } from "./probe.ts";

/** A host with the probe, its clock, and everything the probe logged. */
export interface ProbeHost {
  readonly host: ProxyWasmHost;
  readonly clock: VirtualClock;
  readonly lines: LogLine[];
  /** Texts of the lines that start with `tag`, without it. */
  linesOf(tag: string): string[];
  /** Opens a stream whose script is `script`. */
  open(thread: HostThread, plugin: string, tag: string, script: string, options?: StreamOptions): Stream;
}

/** A plugin with the flag that lets body callbacks run while headers are stopped. */
export function plugin(rootId: string, fields: Partial<PluginInput> = {}): PluginInput {
  return { rootId, vmId: "vm", allowOnHeadersStopIteration: true, ...fields };
}

/** Starts a host with the probe as its module. */
export async function probeHost(options: Partial<HostOptions> = {}): Promise<ProbeHost> {
  const clock = new VirtualClock();
  const lines: LogLine[] = [];
  const host = await createHost({
    module: await probeWasm(),
    clock,
    onLog: (line) => lines.push(line),
    plugins: [plugin("root")],
    ...options,
  });
  return {
    host,
    clock,
    lines,
    linesOf: (tag) =>
      lines
        .filter(({ text }) => text.startsWith(`${tag} `))
        .map(({ text }) => text.slice(tag.length + 1).trim()),
    open: (thread, name, tag, script, streamOptions = {}) =>
      thread.openStream(name, streamOptions).requestHeaders(
        {
          ":method": "POST",
          ":path": "/",
          ":authority": "probe",
          "x-tag": tag,
          "x-probe": script,
        },
        streamOptions.end ?? false,
      ),
  };
}

/** Seeded random numbers in [0, 1): the same sequence for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A seed for a random test: SEED from the environment to repeat a failure, else a fresh one. */
export function testSeed(): number {
  return Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));
}
