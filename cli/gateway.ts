// A gateway over some endpoints: Envoy with the filter and a sidecar, or Envoy with a policy of its own.
import type { BalancePolicy } from "./envoy-config.ts";
import { type RunningEnvoy, startEnvoy } from "./envoy.ts";
import type { RunningGateway } from "./demo.ts";
import type { Supervisor } from "./processes.ts";
import { startSidecar } from "./sidecar.ts";

/** The pool's name in Envoy's route metadata and in the sidecar's configuration. */
export const POOL_NAME = "pool";

/** How a gateway is started. */
export interface GatewayOptions {
  readonly supervisor: Supervisor;
  readonly envoyPath: string;
  readonly policy: BalancePolicy;
  /** "host:port" each. */
  readonly addresses: readonly string[];
  /** The same endpoints as the sidecar takes them; the addresses unless given. */
  readonly endpoints?: readonly unknown[];
  /** Port of the inference listener, 0 = a free one. */
  readonly port: number;
  readonly host?: string;
  /** Envoy's worker threads. */
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
  /** Base URL of Envoy's admin listener. */
  readonly adminUrl: string;
  /** Unix socket of the control listener; "" with a policy of Envoy's own. */
  readonly controlSocket: string;
  /** Base URL of the sidecar's own server; "" without one. */
  readonly sidecarUrl: string;
}

/** Starts Envoy, and the sidecar for the policy "epp". Returns when requests can be sent. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const envoy = await startEnvoy({
    envoyPath: options.envoyPath,
    endpoints: options.addresses,
    policy: options.policy,
    port: options.port,
    concurrency: options.concurrency,
    poolName: POOL_NAME,
    ...(options.host === undefined ? {} : { host: options.host }),
    ...(options.pickerConfig === undefined ? {} : { pluginConfig: options.pickerConfig }),
  });
  options.supervisor.adopt(envoy.pid);
  let stopping = false;
  void envoy.exited.then(() => {
    options.supervisor.release(envoy.pid);
    if (!stopping) options.onEnd?.(envoy.log());
  });
  const stopEnvoy = (): Promise<void> => {
    stopping = true;
    return envoy.stop();
  };
  if (options.policy !== "epp") {
    return { url: envoy.url, adminUrl: envoy.adminUrl, controlSocket: "", sidecarUrl: "", stop: stopEnvoy };
  }
  try {
    return await withSidecar(options, envoy, stopEnvoy);
  } catch (error) {
    await stopEnvoy();
    throw error;
  }
}

async function withSidecar(
  options: GatewayOptions,
  envoy: RunningEnvoy,
  stopEnvoy: () => Promise<void>,
): Promise<Gateway> {
  const sidecar = await startSidecar(options.supervisor, {
    controlSocket: envoy.controlSocket,
    poolName: POOL_NAME,
    endpoints: options.endpoints ?? options.addresses,
    ...(options.sidecarPool === undefined ? {} : { pool: options.sidecarPool }),
  });
  return {
    url: envoy.url,
    adminUrl: envoy.adminUrl,
    controlSocket: envoy.controlSocket,
    sidecarUrl: sidecar.url,
    stop: async () => {
      await sidecar.stop();
      await stopEnvoy();
    },
  };
}
