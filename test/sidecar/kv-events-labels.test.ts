// Labels of endpoints that say where their engines publish: bad ones are told once, at their first sight.
import { describe, expect, it } from "vitest";
import type { Endpoint } from "../../sidecar/discovery/endpoint.ts";
import { makeEndpoint } from "../../sidecar/discovery/endpoint.ts";
import { NO_SINK } from "../../sidecar/kv-events/block-sink.ts";
import { PORT_LABEL, REPLAY_PORT_LABEL } from "../../sidecar/kv-events/labels.ts";
import { KvEventsMonitor } from "../../sidecar/kv-events/monitor.ts";
import { makeLogger } from "../../sidecar/log.ts";

const SETTINGS = {
  port: 1,
  replayPort: null,
  ranks: 1,
  topic: "",
  tokenizerPath: null,
  replayTimeoutMs: 300,
  idleCheckMs: 100,
  blocksMax: 1_024,
  promptCheckMs: 1_000,
};

function endpoint(port: number, labels: Readonly<Record<string, string>>): Endpoint {
  const made = makeEndpoint({ address: "127.0.0.1", port, labels });
  if (typeof made === "string") throw new Error(made);
  return made;
}

describe("a label of a port", () => {
  it("that is none is told once an endpoint and value, and again when it comes back", () => {
    const log: string[] = [];
    const write = (line: string): void => {
      const { level, endpoint: address, msg } = JSON.parse(line) as Record<string, unknown>;
      if (Number(level) >= 40) log.push(`${String(address)} ${String(msg)}`);
    };
    const monitor = new KvEventsMonitor({
      settings: SETTINGS,
      credentials: () => ({ tls: null, token: null }),
      sink: NO_SINK,
      log: makeLogger("warn", { write }),
    });
    const told = (...endpoints: Endpoint[]): string[] => {
      log.length = 0;
      monitor.update(endpoints);
      return [...log];
    };
    const [one, two] = [endpoint(8, { [PORT_LABEL]: "http" }), endpoint(9, { [PORT_LABEL]: "http" })];
    const first = `127.0.0.1:8 label ${PORT_LABEL}: "http": expected a port number`;
    try {
      expect(told(one)).toEqual([first]);
      expect(told(one, two)).toEqual([first.replace(":8", ":9")]);
      expect(told(one, two)).toEqual([]);
      const other = endpoint(8, { [PORT_LABEL]: "70000", [REPLAY_PORT_LABEL]: "-" });
      expect(told(other, two)).toHaveLength(2);
      expect(told(two)).toEqual([]);
      expect(told(one, two)).toEqual([first]);
    } finally {
      monitor.stop();
    }
  });
});
