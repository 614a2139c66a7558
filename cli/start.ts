// `npm start`: the gateway over simulated replicas with a measured demonstration, or over real servers.
import { createServer } from "node:net";
import { request } from "undici";
import { generateWorkload } from "../host-sim/workload/generate.ts";
import type { PlannedRequest } from "../host-sim/workload/types.ts";
import { describeDemo, type DemoFleet, type DemoGateway, type DemoRun, runDemo } from "./demo.ts";
import type { BalancePolicy } from "./envoy-config.ts";
import { envoyVersion, findEnvoy, ROOT } from "./envoy.ts";
import { addressText, type Fleet, fleetFromFile, fleetFromList } from "./fleet-config.ts";
import { type DataPlaneChoice, type Gateway, type GatewayOptions, startGateway } from "./gateway.ts";
import { Supervisor } from "./processes.ts";
import { Progress } from "./progress.ts";
import {
  DECODE_REPLICAS,
  describePdDemo,
  PD_REPLICAS,
  type PdFleet,
  pdPickerConfig,
  PREFILL_REPLICAS,
  startPdFleets,
} from "./pd-demo.ts";
import { startReplicas } from "./replicas.ts";
import { DEFAULT_PORT, ratePerSecond, readFlags, type StartFlags, workloadOf } from "./start-flags.ts";

const REPLICAS = 8;
const REPLICA_TEXT = "Llama-3.3-70B FP8 on 2 × H100";
const MODELS_TIMEOUT_MS = 2000;
const EXIT_INTERRUPTED = 130;

/** What a demonstration compares. */
interface Demonstration {
  readonly gateways: readonly DemoGateway[];
  readonly fleet: DemoFleet;
  readonly plan: readonly PlannedRequest[];
  readonly describe: (runs: readonly DemoRun[], plan: readonly PlannedRequest[]) => string;
}

/** Options were given that exclude each other. */
export class ConflictingFlagsError extends Error {
  readonly code = "conflicting_flags";
}

class Program {
  private readonly flags: StartFlags;
  private readonly supervisor = new Supervisor();
  private readonly interrupted = new AbortController();
  private readonly progress: Progress;
  private gateway: Gateway | undefined;

  constructor(flags: StartFlags) {
    this.flags = flags;
    this.progress = new Progress(flags.json === true ? process.stderr : process.stdout);
  }

  /** @returns the exit code */
  async run(): Promise<number> {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => this.interrupted.abort(new Error(signal)));
    }
    try {
      const fleet = await this.chooseFleet();
      if (fleet === undefined) return await this.demonstrate();
      await this.serveFleet(fleet);
      return 0;
    } catch (error) {
      if (this.interrupted.signal.aborted) return EXIT_INTERRUPTED;
      throw error;
    } finally {
      await this.gateway?.stop();
      await this.supervisor.stopAll();
    }
  }

  private async chooseFleet(): Promise<Fleet | undefined> {
    const { endpoints, config, pd } = this.flags;
    if (endpoints !== undefined && config !== undefined) {
      throw new ConflictingFlagsError("--endpoints and --config were given, expected one of them");
    }
    if (pd === true && (endpoints ?? config) !== undefined) {
      throw new ConflictingFlagsError(
        "--pd was given with real servers, expected it without --endpoints or --config",
      );
    }
    if (endpoints !== undefined) return fleetFromList(endpoints);
    return config === undefined ? undefined : fleetFromFile(config);
  }

  private async demonstrate(): Promise<number> {
    const { once, json, pd } = this.flags;
    const dataPlane = await this.chooseDataPlane();
    const { gateways, fleet, plan, describe } = await (pd === true
      ? this.prepareRoles(dataPlane)
      : this.preparePolicies(dataPlane));
    const options = { gateways, fleet, plan, progress: this.progress, signal: this.interrupted.signal };
    const report = await runDemo(options);
    this.progress.line(`\n${describe(report.runs, plan)}`);
    if (json === true) process.stdout.write(`${reportJson(this.flags, plan, report.runs)}\n`);
    if (once !== true && process.stdout.isTTY) await this.serveUntilInterrupted();
    return report.runs.every(({ requests: sent, errors }) => errors < sent) ? 0 : 1;
  }

  private async preparePolicies(dataPlane: DataPlaneChoice): Promise<Demonstration> {
    this.progress.line(`Starting ${REPLICAS} simulated vLLM replicas (${REPLICA_TEXT} each).`);
    const replicas = await startReplicas(this.supervisor, REPLICAS);
    const plan = generateWorkload(workloadOf(this.flags));
    this.progress.line(
      `Sending ${this.planText(plan)} three times: round_robin, least_request, then the picker.`,
    );
    const common = { supervisor: this.supervisor, dataPlane, addresses: replicas.addresses };
    const port = await this.choosePort();
    const gateways = [
      this.demoGateway("epp-wasm", "epp", { ...common, port }),
      this.demoGateway("round_robin", "round_robin", { ...common, port: 0 }),
      this.demoGateway("least_request", "least_request", { ...common, port: 0 }),
    ];
    const fleet = { size: REPLICAS, restart: replicas.restart, status: replicas.status };
    return { gateways, fleet, plan, describe: describeDemo };
  }

  private async prepareRoles(dataPlane: DataPlaneChoice): Promise<Demonstration> {
    this.progress.line(
      `Starting simulated vLLM replicas (${REPLICA_TEXT} each): ${PREFILL_REPLICAS} that prefill for ` +
        `${DECODE_REPLICAS} that decode over NIXL, and ${PD_REPLICAS} that do both.`,
    );
    const { split, whole } = await startPdFleets(this.supervisor);
    const plan = generateWorkload(workloadOf(this.flags));
    this.progress.line(
      `Sending ${this.planText(plan)} three times: to the ${PD_REPLICAS} by round_robin and by the picker, then to ` +
        "the others by the picker, which has long prompts computed by the prefill replicas.",
    );
    const over = ({ addresses, endpoints }: PdFleet) => ({
      ...{ supervisor: this.supervisor, dataPlane, addresses, endpoints },
    });
    const port = await this.choosePort();
    const name = `${PREFILL_REPLICAS} prefill + ${DECODE_REPLICAS} decode, epp-wasm`;
    const gateways = [
      {
        ...this.demoGateway(name, "epp", { ...over(split), port, pickerConfig: pdPickerConfig() }),
        fleet: split,
      },
      this.demoGateway(`${PD_REPLICAS} of both, epp-wasm`, "epp", { ...over(whole), port: 0 }),
      this.demoGateway(`${PD_REPLICAS} of both, round_robin`, "round_robin", { ...over(whole), port: 0 }),
    ];
    return { gateways, fleet: whole, plan, describe: describePdDemo };
  }

  private planText(plan: readonly PlannedRequest[]): string {
    return `${plan.length} requests at ${ratePerSecond(this.flags)}/s (seed ${this.flags.seed})`;
  }

  private demoGateway(
    policy: string,
    balance: BalancePolicy,
    options: Omit<GatewayOptions, "policy" | "concurrency">,
  ): DemoGateway {
    return {
      policy,
      start: async () => {
        this.gateway = await this.start({ ...options, policy: balance });
        return this.gateway;
      },
    };
  }

  private async serveFleet(fleet: Fleet): Promise<void> {
    const { pickerConfig, sidecarPool, endpoints } = fleet;
    this.gateway = await this.start({
      supervisor: this.supervisor,
      dataPlane: await this.chooseDataPlane(),
      policy: "epp",
      addresses: endpoints.map(addressText),
      endpoints,
      port: await this.choosePort(),
      host: "0.0.0.0",
      sidecarPool,
      ...(pickerConfig === undefined ? {} : { pickerConfig }),
    });
    this.progress.line(`The gateway runs over ${endpoints.length} endpoints.`);
    await this.serveUntilInterrupted();
  }

  private start(options: Omit<GatewayOptions, "concurrency" | "onEnd">): Promise<Gateway> {
    return startGateway({
      ...options,
      concurrency: this.flags.concurrency,
      onEnd: (log) => this.interrupted.abort(new Error(`Envoy ended:\n${log.slice(-2000)}`)),
    });
  }

  private async chooseDataPlane(): Promise<DataPlaneChoice> {
    if (process.env["EPP_DATA_PLANE"] === "host-sim") return this.standIn([]);
    const { path, skipped } = await findEnvoy(ROOT);
    if (path === undefined) return this.standIn(skipped);
    const version = (await envoyVersion(path)).join(".");
    this.progress.line(`Data plane: Envoy ${version} (${path}).`);
    return { envoyPath: path };
  }

  private standIn(reasons: readonly string[]): DataPlaneChoice {
    for (const reason of reasons) this.progress.line(reason);
    this.progress.line(
      "Data plane: no usable Envoy was found, so the filter runs in the built-in stand-in on Node. " +
        "Its policies are the same, its speed is not Envoy's.",
    );
    return "host-sim";
  }

  // The usual port if it is free, else any: a demonstration should not fail for want of a number.
  private async choosePort(): Promise<number> {
    const { port } = this.flags;
    if (port !== DEFAULT_PORT) return port;
    const free = await new Promise<boolean>((resolve) => {
      const probe = createServer()
        .once("error", () => resolve(false))
        .listen(port, "0.0.0.0", () => probe.close(() => resolve(true)));
    });
    if (!free) this.progress.line(`Port ${port} is taken; using a free one.`);
    return free ? port : 0;
  }

  private async serveUntilInterrupted(): Promise<void> {
    const { url, adminUrl, sidecarUrl, controlSocket } = this.gateway!;
    const body = JSON.stringify({
      model: await firstModel(url),
      messages: [{ role: "user", content: "Which replica holds the KV cache of this prompt?" }],
      max_tokens: 60,
      stream: true,
    });
    this.progress.line(
      [
        "",
        `Serving on ${url} until Ctrl-C. Try:`,
        `  curl -N ${url}/v1/chat/completions -H 'content-type: application/json' -d '${body}'`,
        `  curl ${url}/v1/models`,
        `  curl -s ${adminUrl}/stats/prometheus | grep epp`,
        `  curl ${sidecarUrl}/metrics`,
        `  curl --unix-socket ${controlSocket} http://epp/status`,
      ].join("\n"),
    );
    const { signal } = this.interrupted;
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve));
    const { message } = signal.reason as Error;
    if (!message.startsWith("SIG")) throw signal.reason as Error;
  }
}

/** A model that the fleet serves, for the example; "MODEL" when no server says. */
async function firstModel(url: string): Promise<string> {
  try {
    const { body } = await request(`${url}/v1/models`, { headersTimeout: MODELS_TIMEOUT_MS });
    const { data } = (await body.json()) as { data: readonly { id: string }[] };
    return data[0]!.id;
  } catch {
    return "MODEL";
  }
}

function reportJson(flags: StartFlags, plan: readonly PlannedRequest[], runs: readonly DemoRun[]): string {
  const { seed, concurrency } = flags;
  const setup = { seed, requests: plan.length, ratePerSecond: ratePerSecond(flags), concurrency };
  return JSON.stringify({ ...setup, runs }, null, 2);
}

new Program(readFlags(process.argv)).run().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  },
);
