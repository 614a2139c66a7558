// Gives a replica the connector that its configuration asks for.
import type { EngineConfig } from "../engine-types.ts";
import type { GenerationService } from "../generation.ts";
import type { ReplicaConfig } from "../replica-types.ts";
import type { KvConnector } from "./leg.ts";
import { NixlConnector } from "./nixl-connector.ts";
import { SglangConnector } from "./sglang-connector.ts";

type Disaggregated = Pick<ReplicaConfig, "engine" | "disaggregation">;

/** The engine's configuration: SGLang's prefillers hold blocks as long as a leg waits for the other. */
export function engineConfigOf({ engine, disaggregation }: Disaggregated): EngineConfig {
  const { connector, roomTimeoutMs } = disaggregation;
  return connector === "sglang" ? { ...engine, holdMs: roomTimeoutMs } : engine;
}

/** The connector, not started; undefined: the replica does everything by itself. */
export function createConnector(
  { disaggregation }: Disaggregated,
  sidePort: number,
  service: GenerationService,
): KvConnector | undefined {
  const config = { ...disaggregation, sidePort };
  switch (config.connector) {
    case "none":
      return undefined;
    case "nixl":
      return new NixlConnector(config, service);
    case "sglang":
      return new SglangConnector(config, service);
  }
}
