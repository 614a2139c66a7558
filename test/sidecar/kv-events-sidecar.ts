// A whole sidecar with one pool that follows simulated replicas' KV events.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { onTestFinished } from "vitest";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import { type Replacements, Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import { PORT_LABEL, REPLAY_PORT_LABEL } from "../../sidecar/kv-events/monitor.ts";
import { makeLogger } from "../../sidecar/log.ts";
import { FakeControl, temporaryFolder } from "./servers.ts";

export interface SidecarSetting {
  readonly sidecar: Sidecar;
  readonly log: Record<string, unknown>[];
  get(path: string): Promise<string>;
}

/** Starts one with a pool called "default" before a gateway, by default one that takes everything. */
export async function startSidecar(
  pool: object,
  replacements: Replacements = {},
  gateway?: FakeControl,
): Promise<SidecarSetting> {
  const folder = temporaryFolder();
  const control = gateway ?? (await new FakeControl(join(folder, "control.sock")).start());
  const config = join(folder, "sidecar.yaml");
  const document = {
    control: control.settings,
    http: { listen: "127.0.0.1:0" },
    pools: [{ name: "default", scrape: { intervalMs: 20 }, ...pool }],
  };
  writeFileSync(config, stringify(document));
  const environment = { EPP_CONTROL_TOKEN: "control-token" };
  const log: Record<string, unknown>[] = [];
  const sidecar = new Sidecar(loadSettings({ config }, environment), {
    log: makeLogger("debug", { write: (line: string) => void log.push(JSON.parse(line)) }),
    environment,
    ...replacements,
  });
  onTestFinished(() => sidecar.stop());
  await sidecar.start();
  const get = async (path: string): Promise<string> =>
    (await fetch(`http://127.0.0.1:${sidecar.httpPort}${path}`)).text();
  return { sidecar, log, get };
}

export const portOf = (endpoint: string): string => endpoint.slice(endpoint.lastIndexOf(":") + 1);

/** The entry of an endpoints list, with the ports that a replica's first engine publishes at. */
export function endpointOf({ address, kvEvents }: SimulatedReplica): object {
  const { endpoint, replayEndpoint } = kvEvents!.sources[0]!;
  const labels = { [PORT_LABEL]: portOf(endpoint), [REPLAY_PORT_LABEL]: portOf(replayEndpoint) };
  return { address: "127.0.0.1", port: Number(portOf(address)), labels };
}
