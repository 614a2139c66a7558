// A gateway over some endpoints: the filter with a sidecar, or a policy of the proxy's own; in Envoy or
// host-sim.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startDataPlane } from "../host-sim/data-plane/index.ts";
import type { RunningGateway } from "./demo.ts";
import type { BalancePolicy } from "./envoy-config.ts";
import { startEnvoy, WASM_PATH } from "./envoy.ts";
import type { Supervisor } from "./processes.ts";
import { startSidecar } from "./sidecar.ts";

/** The pool's name in Envoy's route metadata and in the sidecar's configuration. */
export const POOL_NAME = "pool";

/** What carries the traffic: an Envoy binary, or the stand-in on Node where there is none. */
export type DataPlaneChoice = { readonly envoyPath: string } | "host-sim";

/** How a gateway is started. */
export interface GatewayOptions {
  readonly supervisor: Supervisor;
  readonly dataPlane: DataPlaneChoice;
  readonly policy: BalancePolicy;
  /** "host:port" each. */
  readonly addresses: readonly string[];
  /** The same endpoints as the sidecar takes them; the addresses unless given. */
  readonly endpoints?: readonly unknown[];
  /** Port of the inference listener, 0 = a free one. */
  readonly port: number;
  readonly host?: string;
  /** Worker threads of Envoy, or VMs of the stand-in. */
  readonly concurrency: number;
  /** EndpointPickerConfig as JSON; the filter's default unless given. */
  readonly pickerConfig?: string;
  /** Further fields of the sidecar's pool. */
  readonly sidecarPool?: Readonly<Record<string, unknown>>;
  /** Called if Envoy ends while it should run. */
  readonly onEnd?: (log: string) => void;
}

/** A running gateway with where to look into it. */
export interface Gateway extends RunningGateway {
  /** Base URL of the admin listener. */
  readonly adminUrl: string;
  /** Unix socket of the control listener; "" with a policy of Envoy's own. */
  readonly controlSocket: string;
  /** Base URL of the sidecar's own server; "" without one. */
  readonly sidecarUrl: string;
}

/** A started data plane, of either kind. */
interface Plane {
  readonly url: string;
  readonly adminUrl: string;
  readonly controlSocket: string;
  stop(): Promise<void>;
}

/** Starts the data plane, and the sidecar for the policy "epp". Returns when requests can be sent. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const plane = await (options.dataPlane === "host-sim"
    ? startHostSim(options)
    : startEnvoyPlane(options, options.dataPlane.envoyPath));
  const { url, adminUrl, controlSocket } = plane;
  if (options.policy !== "epp") {
    return { url, adminUrl, controlSocket: "", sidecarUrl: "", stop: () => plane.stop() };
  }
  try {
    const sidecar = await startSidecar(options.supervisor, {
      controlSocket,
      poolName: POOL_NAME,
      endpoints: options.endpoints ?? options.addresses,
      ...(options.sidecarPool === undefined ? {} : { pool: options.sidecarPool }),
    });
    const stop = async (): Promise<void> => {
      await sidecar.stop();
      await plane.stop();
    };
    return { url, adminUrl, controlSocket, sidecarUrl: sidecar.url, stop };
  } catch (error) {
    await plane.stop();
    throw error;
  }
}

async function startEnvoyPlane(options: GatewayOptions, envoyPath: string): Promise<Plane> {
  const envoy = await startEnvoy({
    envoyPath,
    endpoints: options.addresses,
    policy: options.policy,
    port: options.port,
    concurrency: options.concurrency,
    poolName: POOL_NAME,
    ...(options.host === undefined ? {} : { host: options.host }),
    ...(options.pickerConfig === undefined ? {} : { pluginConfig: options.pickerConfig }),
  });
  let stopping = false;
  void envoy.exited.then(() => {
    if (!stopping) options.onEnd?.(envoy.log());
  });
  const { url, adminUrl, controlSocket } = envoy;
  const stop = (): Promise<void> => {
    stopping = true;
    return envoy.stop();
  };
  return { url, adminUrl, controlSocket, stop };
}

async function startHostSim(options: GatewayOptions): Promise<Plane> {
  const folder = await mkdtemp(join(tmpdir(), "epp-host-sim-"));
  const plane = await startDataPlane({
    policy: options.policy,
    module: WASM_PATH,
    endpoints: options.addresses,
    port: options.port,
    control: join(folder, "control.sock"),
    workers: options.concurrency,
    poolName: POOL_NAME,
    ...(options.host === undefined ? {} : { host: options.host }),
    ...(options.pickerConfig === undefined ? {} : { pluginConfig: options.pickerConfig }),
  });
  const { url, adminUrl, controlSocket } = plane;
  const stop = async (): Promise<void> => {
    await plane.stop();
    await rm(folder, { recursive: true, force: true });
  };
  return { url, adminUrl, controlSocket, stop };
}
