// Settings out of a configuration's text.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Flags, loadSettings } from "../../sidecar/config/load.ts";
import type { Settings } from "../../sidecar/config/settings.ts";
import { temporaryFolder } from "./servers.ts";

/** Discovery of one fixed endpoint, as a field of a pool. */
export const STATIC = "discovery: {static: {endpoints: ['10.0.0.1:8000']}}";

/** What is read of a document with these flags and variables. @throws what the loader throws */
export function load(yaml: string, flags: Flags = {}, environment: NodeJS.ProcessEnv = {}): Settings {
  const path = join(temporaryFolder(), "sidecar.yaml");
  writeFileSync(path, yaml);
  return loadSettings({ config: path, ...flags }, environment);
}
