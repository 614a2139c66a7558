// Renders the chart: the part of Go's text/template that its files keep to; anything else in braces is refused.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { ROOT } from "../../cli/envoy.ts";
import { at } from "./folders.ts";
import type { Resource } from "./resource-schemas.ts";

export const CHART = join(ROOT, "charts", "epp-wasm");

/** A template that this renderer, unlike Helm, does not know, or a value that is not there. */
export class TemplateError extends Error {
  readonly code = "ERR_TEMPLATE";
  constructor(path: string, action: string) {
    super(`${path}: cannot render ${action}`);
    this.name = "TemplateError";
  }
}

/** A whole file stands under one condition: a gateway, and perhaps a switch. */
const FILE =
  /^\{\{- if (?:eq \.Values\.gateway "([a-z-]+)"|and \(eq \.Values\.gateway "([a-z-]+)"\) \.Values\.([\w.]+)) \}\}\n([\s\S]*)\{\{- end \}\}\n$/;

/** The chart's resources with these values. @throws TemplateError */
export function renderChart(values: object): Resource[] {
  const folder = join(CHART, "templates");
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((path) =>
    path.endsWith(".yaml"),
  );
  return files.sort().flatMap((path) => {
    const text = renderTemplate(path, readFileSync(join(folder, path), "utf8"), values);
    return parseAllDocuments(text)
      .map((document) => document.toJS() as Resource | null)
      .filter((resource) => resource !== null);
  });
}

/** @returns "" where the file's condition does not hold */
export function renderTemplate(path: string, template: string, values: object): string {
  const match = FILE.exec(template);
  if (match === null) throw new TemplateError(path, "a file without its condition");
  const [, gateway = match[2], , flag, body] = match;
  if (gateway !== at(values, "gateway") || (flag !== undefined && at(values, flag) !== true)) return "";
  return body!.replace(/\{\{.*?\}\}/g, (action) => {
    const value = at(values, /^\{\{ \.Values\.([\w.]+) \}\}$/.exec(action)?.[1] ?? "");
    if (typeof value !== "string" && typeof value !== "number") throw new TemplateError(path, action);
    return String(value);
  });
}
