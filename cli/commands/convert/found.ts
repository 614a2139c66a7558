// What conversion gathers of a deployment, from whichever documents hold it.
import { type Fields, isFields, parseDocuments } from "../documents.ts";
import { kindOf } from "../validate.ts";
import { type FlagValues, judgeFlags } from "./flags.ts";
import type { Outcomes } from "./outcome.ts";

/** What was found; every part may be missing. */
export interface EppDeployment {
  readonly flags: FlagValues;
  /** Configurations by the name of their file, in the order found. */
  readonly configs: Map<string, Fields>;
  poolName?: string;
  namespace?: string;
  /** Labels of the model servers' pods. */
  selector?: Readonly<Record<string, string>>;
  ports: number[];
  /** The InferencePool's own labels and ports, for the Service that the gateway's cluster needs. */
  poolSelector?: Readonly<Record<string, string>>;
  poolPort?: number;
  /** What the gateway did while the picker did not answer. */
  failureMode?: "FailOpen" | "FailClose";
}

/** The EndpointPickerConfig that a text holds. */
export function configIn(where: string, content: unknown): Fields | undefined {
  if (typeof content !== "string") return undefined;
  try {
    const [document] = parseDocuments(where, content);
    return isFields(document) && kindOf(document) === "EndpointPickerConfig" ? document : undefined;
  } catch {
    return undefined;
  }
}

/** Takes over flags, from wherever they come, and reports those that are not read. */
export function takeFlags(flags: FlagValues, found: EppDeployment, outcomes: Outcomes): void {
  judgeFlags(flags, outcomes);
  for (const [name, value] of flags) found.flags.set(name, value);
  const config = configIn("--config-text", flags.get("config-text"));
  if (config !== undefined) found.configs.set("--config-text", config);
}
