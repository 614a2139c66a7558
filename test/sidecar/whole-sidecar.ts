// A whole sidecar before a fake control listener, ended with the test that started it.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { onTestFinished } from "vitest";
import { type Replacements, Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import { makeLogger } from "../../sidecar/log.ts";
import { FakeControl, temporaryFolder } from "./servers.ts";

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
