// What `epp-wasm --version` says: the release, and what a module and a sidecar of it speak with one another.
import { KV_WIRE_VERSION } from "../assembly/wire/kv-deltas.ts";
import { POLICY_WIRE_VERSION } from "../assembly/wire/policy.ts";
import { PROMPTS_WIRE_VERSION } from "../assembly/wire/prompt-programs.ts";
import { SNAPSHOT_VERSION } from "../assembly/wire/snapshot.ts";
import { version } from "../package.json";

/** Of package.json. */
export const RELEASE = version;

/** The release on the first line, then the versions of the wire formats. */
export function versionText(): string {
  const wire = [
    `snapshot ${SNAPSHOT_VERSION}`,
    `policy ${POLICY_WIRE_VERSION}`,
    `index changes ${KV_WIRE_VERSION}`,
    `prompt programs ${PROMPTS_WIRE_VERSION}`,
  ];
  return `${RELEASE}\nwire formats: ${wire.join(", ")}`;
}
