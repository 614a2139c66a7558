// A whole sidecar with one pool that follows simulated replicas' KV events.
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import type { Replacements, Sidecar } from "../../sidecar/app.ts";
import { PORT_LABEL, REPLAY_PORT_LABEL } from "../../sidecar/kv-events/labels.ts";
import type { FakeControl } from "./servers.ts";
import { startWhole } from "./whole-sidecar.ts";

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
  const pools = [{ name: "default", scrape: { intervalMs: 20 }, ...pool }];
  const { sidecar, log, get } = await startWhole(pools, { replacements, listener: gateway });
  return { sidecar, log, get: async (path) => (await get(path)).text };
}

export const portOf = (endpoint: string): string => endpoint.slice(endpoint.lastIndexOf(":") + 1);

/** The entry of an endpoints list, with the ports that a replica's first engine publishes at. */
export function endpointOf({ address, kvEvents }: SimulatedReplica): object {
  const { endpoint, replayEndpoint } = kvEvents!.sources[0]!;
  const labels = { [PORT_LABEL]: portOf(endpoint), [REPLAY_PORT_LABEL]: portOf(replayEndpoint) };
  return { address: "127.0.0.1", port: Number(portOf(address)), labels };
}
