// A whole sidecar before a fake control listener, ended with the test that started it.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { onTestFinished } from "vitest";
import { ENDPOINT_READY } from "../../assembly/wire/snapshot.ts";
import { type Replacements, Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import { makeLogger } from "../../sidecar/log.ts";
import type { SnapshotEndpoint } from "../../sidecar/snapshot-encoder.ts";
import { FakeControl, type FakeModelServer, temporaryFolder } from "./servers.ts";

/** Settings of `scrape` with which a test need not wait long, and a busy machine answers in time. */
export const FAST = { intervalMs: 20, timeoutMs: 2_000 };

/** A machine that stands still for a moment must not make the sidecar bring anything twice. */
export const PATIENT = { controlTimeoutMs: 60_000 } satisfies Replacements;

/** A running sidecar and what is around it. */
export interface WholeSidecar {
  readonly sidecar: Sidecar;
  readonly control: FakeControl;
  /** Lines of its log. */
  readonly log: Record<string, unknown>[];
  get(path: string): Promise<{ status: number; text: string }>;
}

/** What may differ between tests. */
export interface WholeOptions {
  readonly replacements?: Replacements;
  /** A listener that is there already; else one that takes everything is made. */
  readonly listener?: FakeControl | undefined;
  /** Further settings of `control`. */
  readonly control?: object;
}

/** Starts one over `pools`, documents of its own configuration. */
export async function startWhole(
  pools: readonly object[],
  options: WholeOptions = {},
): Promise<WholeSidecar> {
  const folder = temporaryFolder();
  const control = options.listener ?? (await new FakeControl(join(folder, "control.sock")).start());
  const config = join(folder, "sidecar.yaml");
  const document = {
    control: { ...control.settings, ...options.control },
    http: { listen: "127.0.0.1:0" },
    log: { level: "debug" },
    pools,
  };
  writeFileSync(config, stringify(document));
  const environment = { EPP_CONTROL_TOKEN: "control-token" };
  const log: Record<string, unknown>[] = [];
  const sidecar = new Sidecar(loadSettings({ config }, environment), {
    log: makeLogger("debug", { write: (line: string) => void log.push(JSON.parse(line)) }),
    environment,
    ...PATIENT,
    ...options.replacements,
  });
  onTestFinished(() => sidecar.stop());
  await sidecar.start();
  const get = async (path: string): Promise<{ status: number; text: string }> => {
    const response = await fetch(`http://127.0.0.1:${sidecar.httpPort}${path}`);
    return { status: response.status, text: await response.text() };
  };
  return { sidecar, control, log, get };
}

/** Starts one over `pools` that asks for the gateway's status often. */
export const start = (
  pools: readonly object[],
  replacements: Replacements = {},
  listener?: FakeControl,
): Promise<WholeSidecar> => startWhole(pools, { replacements, listener, control: { statusIntervalMs: 100 } });

/** A pool of fixed endpoints, scraped fast; `more` goes before. */
export const staticPool = (servers: readonly FakeModelServer[], more: object = {}): object => ({
  name: "default",
  discovery: { static: { endpoints: servers.map(({ address }) => address) } },
  scrape: FAST,
  ...more,
});

/** Whether a row is there and ready. */
export const isReady = (row: SnapshotEndpoint | undefined): boolean =>
  row !== undefined && (row.flags & ENDPOINT_READY) !== 0;

/** The errors of a log. */
export const errorsOf = (log: Record<string, unknown>[]): Record<string, unknown>[] =>
  log.filter(({ level }) => Number(level) >= 50);
