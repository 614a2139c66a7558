// A listener that can be changed while Envoy runs: the inference listener comes from a watched file (LDS).
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { request } from "undici";
import type { Bootstrap, Listener } from "../../cli/envoy-config.ts";
import { freePort } from "./free-port.ts";
import { type Gateway, type GatewayOptions, startGateway, until } from "./harness.ts";

/** Envoy counts the first once per worker that took an update. */
const TAKEN = "listener_manager.listener_create_success";
const REFUSED = "listener_manager.lds.update_rejected";
const DRAINING = "listener_manager.total_listeners_draining";
/** Longer than any test lasts: what a test begins before an update, the update's drain does not end. */
export const DRAIN_SECONDS = 300;

export interface LiveGateway extends Gateway {
  /** Gives the picker another EndpointPickerConfig (JSON text); returns once all workers have it, or Envoy refused. */
  reconfigure(pluginConfig: string): Promise<"taken" | "refused">;
  /** Waits until no listener that was replaced is left. */
  drained(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Starts a gateway whose inference listener can be updated. Envoy runs configure again on the live VMs then, under a
 * new root context, while streams that have begun stay with the old one.
 */
export async function startLiveGateway(version: string, options: GatewayOptions = {}): Promise<LiveGateway> {
  const folder = await mkdtemp(join(tmpdir(), "epp-lds-"));
  const path = join(folder, "listeners.json");
  let listener!: Listener;
  let update = 0;
  const edit = (bootstrap: Bootstrap): void => {
    options.edit?.(bootstrap);
    listener = bootstrap.static_resources.listeners.shift()!;
    writeFileSync(path, resources(listener));
    bootstrap["node"] = { id: "test", cluster: "test" };
    bootstrap["dynamic_resources"] = {
      lds_config: {
        resource_api_version: "V3",
        path_config_source: { path, watched_directory: { path: folder } },
      },
    };
  };
  // A fixed port: an update of a listener on port 0 would move it.
  const port = await freePort();
  const gateway = await startGateway(version, { ...options, port, edit }).catch(async (error: unknown) => {
    await rm(folder, { recursive: true });
    throw error;
  });
  const workers = options.concurrency ?? 1;
  // What is counted late of the start would pass for the first update.
  await until("both listeners on every worker", async () => (await stat(gateway, TAKEN)) === 2 * workers);
  const reconfigure = async (pluginConfig: string): Promise<"taken" | "refused"> => {
    const [taken, refused] = [await stat(gateway, TAKEN), await stat(gateway, REFUSED)];
    const manager = listener.filter_chains[0]!.filters[0]!.typed_config;
    manager.http_filters[0]!.typed_config.config.configuration.value = pluginConfig;
    // Envoy passes over an update that changes nothing.
    manager["stat_prefix"] = `inference_${++update}`;
    await writeFile(`${path}.new`, resources(listener));
    await rename(`${path}.new`, path);
    return until("the listener's update on every worker", async () => {
      if ((await stat(gateway, REFUSED)) > refused) return "refused";
      return (await stat(gateway, TAKEN)) >= taken + workers && "taken";
    });
  };
  const drained = async (): Promise<void> => {
    await until("replaced listeners gone", async () => (await stat(gateway, DRAINING)) === 0);
  };
  const { stop: stopGateway } = gateway;
  const stop = async (): Promise<void> => {
    await stopGateway();
    await rm(folder, { recursive: true, force: true });
  };
  return Object.assign(gateway, { reconfigure, drained, stop });
}

function resources(listener: Listener): string {
  return JSON.stringify({
    version_info: String(performance.now()),
    resources: [{ "@type": "type.googleapis.com/envoy.config.listener.v3.Listener", ...listener }],
  });
}

async function stat(gateway: Gateway, name: string): Promise<number> {
  const { body } = await request(`${gateway.envoy.adminUrl}/stats?filter=^${name}$`);
  return Number((await body.text()).split(": ")[1]);
}
