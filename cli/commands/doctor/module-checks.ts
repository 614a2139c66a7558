// Findings about the module's bytes: is it ours, in both roles, and the one that this command was shipped with.
import { at } from "../documents.ts";
import type { Observation } from "./collect.ts";
import { error, type Finding, warning } from "./finding.ts";
import { number, type PluginUse } from "./gateway-view.ts";

/** The form of GET /status that is read here (assembly/filter/status.ts). */
const STATUS_VERSION = 1;

/** Faults that show before any request does. */
export function moduleFindings({ status, view, moduleSha256 }: Observation): Finding[] {
  const findings: Finding[] = [];
  if (status !== null && isForeign(status)) {
    findings.push(
      error(
        "foreign-module",
        `the control listener ${status.target} lets GET /status pass: the module there is not this one, or not in the role ingest`,
        "Put epp.wasm of the release where vm_config.code of the control listener looks for it; root_id is ingest.",
      ),
    );
  } else if (status !== null && "value" in status && at(status.value, "version") !== STATUS_VERSION) {
    findings.push(
      warning(
        "module-version",
        `the module's status is of version ${String(at(status.value, "version"))}, and version ${STATUS_VERSION} is read here`,
        "Use the epp-wasm command of the module's release.",
      ),
    );
  }
  const ingests = view.plugins.filter(({ role }) => role === "ingest");
  const pickers = view.plugins.filter(({ role }) => role === "picker");
  for (const picker of pickers) {
    const other = ingests.find((ingest) => differs(picker, ingest));
    if (other !== undefined) {
      findings.push(
        warning(
          "module-differs",
          `picker on listener ${picker.listener} runs ${nameOf(picker)}, the control listener ${nameOf(other)}`,
          "Give both roles the same epp.wasm: they share their state, and its form is the module's own.",
        ),
      );
    } else if (moduleSha256 !== null && (picker.module.sha256 ?? moduleSha256) !== moduleSha256) {
      findings.push(
        warning(
          "module-differs",
          `picker on listener ${picker.listener} runs ${nameOf(picker)}, the epp.wasm beside this command has ${moduleSha256}`,
          "Where both should be of one release, put that epp.wasm where the gateway fetches the module.",
        ),
      );
    }
  }
  return findings;
}

/** Our ingest answers every path itself, with JSON; another module leaves it to the listener's 404. */
function isForeign(status: NonNullable<Observation["status"]>): boolean {
  if ("failure" in status) return status.answered === 404;
  return number(at(status.value, "version")) === null || !Array.isArray(at(status.value, "pools"));
}

/** Only what both say can be compared: a file of the pod has no sum in Envoy's configuration. */
function differs({ module: one }: PluginUse, { module: other }: PluginUse): boolean {
  if (one.sha256 !== undefined && other.sha256 !== undefined) return one.sha256 !== other.sha256;
  return one.file !== undefined && other.file !== undefined && one.file !== other.file;
}

function nameOf({ module }: PluginUse): string {
  return module.sha256 === undefined ? String(module.file) : `the module with sha256 ${module.sha256}`;
}
