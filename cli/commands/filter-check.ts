// Asks the filter itself whether it would take a configuration: build/epp.wasm runs its configure in host-sim.
import { existsSync } from "node:fs";
import { ConfigureRefusedError, ProxyWasmHost, VirtualClock } from "../../host-sim/host/index.ts";
import { WASM_PATH } from "../envoy.ts";
import { withMeant } from "./did-you-mean.ts";
import { at, type Fields, isFields } from "./documents.ts";

/** Between two notices of one line: what comes next is a path in the document, or what is said of the whole of it. */
const NOTICE_END = /; (?=\w+\[\d+\] |no scheduling |no scorer |epp-wasm-disaggregation: )/;
/** Plugins that are judged one by one; the filter refuses a document with more. */
const PLUGINS_MAX = 64;
const REFUSED = "epp: configuration refused: ";
const NOTICE = "epp: ";
/** Level that Envoy's --log-level info shows. */
const LOG_INFO = 2;

/** What the filter says to one document. */
export interface FilterVerdict {
  /** Faults as the filter words them, "path: value — expectation"; empty = Envoy loads it. */
  readonly errors: readonly string[];
  /** What the filter takes without effect, and why. */
  readonly notes: readonly string[];
}

/** The module is not there to be asked. */
export class WasmMissingError extends Error {
  readonly code = "wasm_missing";
  constructor(readonly path: string) {
    super(`${path} is not there; \`npm run build\` makes it`);
  }
}

/** The name by which others refer to a plugin. */
function nameOf(plugin: unknown): unknown {
  return at(plugin, "name") ?? at(plugin, "type");
}

/** Runs configure in one host; many documents may be checked one after another. */
export class FilterCheck {
  private checked = 0;
  private lines: string[] = [];
  private readonly host: ProxyWasmHost;

  /** @throws WasmMissingError */
  constructor(wasmPath: string = WASM_PATH) {
    if (!existsSync(wasmPath)) throw new WasmMissingError(wasmPath);
    this.host = new ProxyWasmHost({
      module: wasmPath,
      clock: new VirtualClock(),
      logLevel: LOG_INFO,
      hostEnvironment: {},
      onLog: ({ text, thread }) => {
        // The host keeps bytes as Latin-1 characters; the filter's texts are UTF-8.
        if (thread < 0) this.lines.push(Buffer.from(text, "latin1").toString("utf8"));
      },
    });
  }

  /**
   * The filter tells a document's first fault only, so each of its plugins is also judged by itself: every fault of a
   * plugin is told at once, in the filter's own words; an unknown type with the one that was probably meant.
   */
  async document(document: unknown): Promise<FilterVerdict> {
    const whole = await this.text(JSON.stringify(document) ?? "");
    if (whole.errors.length === 0) return whole;
    const alone = await this.pluginFaults(document);
    return { errors: [...new Set([...alone, ...whole.errors])].map(withMeant), notes: whole.notes };
  }

  /**
   * Errors of single plugins, with their paths in the whole document. Each is judged beside the others as they are
   * without parameters, for it may name them; others that are not taken even so are left out.
   */
  private async pluginFaults(document: unknown): Promise<string[]> {
    const { apiVersion, kind, plugins } = document as Record<string, unknown>;
    if (!Array.isArray(plugins)) return [];
    const judged = (list: readonly unknown[]): Promise<FilterVerdict> =>
      this.text(JSON.stringify({ apiVersion, kind, plugins: list }));
    const entries = plugins.slice(0, PLUGINS_MAX) as unknown[];
    const bare: { readonly index: number; readonly plugin: Fields }[] = [];
    for (const [index, entry] of entries.entries()) {
      if (!isFields(entry)) continue;
      const plugin = { type: entry["type"], name: entry["name"] };
      if ((await judged([plugin])).errors.length === 0) bare.push({ index, plugin });
    }
    const faults: string[] = [];
    for (const [index, entry] of entries.entries()) {
      const others = bare.filter((other) => other.index !== index && nameOf(other.plugin) !== nameOf(entry));
      const { errors } = await judged([entry, ...others.map(({ plugin }) => plugin)]);
      const own = errors.filter((error) => error.startsWith("plugins[0]"));
      faults.push(...own.map((error) => error.replace("plugins[0]", `plugins[${index}]`)));
    }
    return faults;
  }

  /** One configuration text exactly as Envoy would hand it over. */
  async text(configuration: string): Promise<FilterVerdict> {
    const name = `checked-${++this.checked}`;
    this.lines = [];
    try {
      await this.host.addPlugin({ name, rootId: "picker", vmId: "epp", configuration });
      this.host.removePlugin(name);
      return { errors: [], notes: this.notes() };
    } catch (error) {
      if (!(error instanceof ConfigureRefusedError)) throw error;
      const refused = this.lines.filter((line) => line.startsWith(REFUSED));
      const faults = refused.map((line) => line.slice(REFUSED.length).trim());
      return { errors: faults.length > 0 ? [...new Set(faults)] : [error.message], notes: this.notes() };
    }
  }

  close(): void {
    this.host.close();
  }

  // The notices of one configuration are one line: "plugins[1] a: why; plugins[3] b: why". The canary VM and the
  // main thread's each log it.
  private notes(): string[] {
    const lines = this.lines.filter((line) => line.startsWith(NOTICE) && !line.startsWith(REFUSED));
    return [...new Set(lines.flatMap((line) => line.slice(NOTICE.length).trim().split(NOTICE_END)))];
  }
}
