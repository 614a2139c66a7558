// The stages of a configuration, for the filter: which run, when, and how a prefill elsewhere is carried out.
import { planPicker } from "../schedule/plan";
import { STAGE_ENCODE, STAGE_PREFILL } from "./profile-handlers";
import { slotStagePlan, slotStages } from "./slots";
import {
  STAGES_BODY_BYTES,
  STAGES_BOOTSTRAP_PORT,
  STAGES_CLUSTER,
  STAGES_DATA_PARALLEL,
  STAGES_DECIDER,
  STAGES_DECODE_RETRY,
  STAGES_ENCODE,
  STAGES_KV_BYTES,
  STAGES_MIN_GAIN_MS,
  STAGES_MODE,
  STAGES_NON_CACHED,
  STAGES_PREFILL,
  STAGES_PREFILL_FIRST,
  STAGES_PRIMARY_PORT,
  STAGES_PROMPT,
  STAGES_PROTOCOL,
  STAGES_TIMEOUT_MS,
  STAGES_TRANSFER_RATE,
} from "./stages-layout";

/** The profile by which prefill endpoints are found; 0 = prompts are computed where they are decoded. */
export function configPrefillPlan(config: u32): usize {
  if (load<u8>(slotStages(<usize>config), STAGES_PREFILL) == 0) return 0;
  const plan = slotStagePlan(<usize>config, STAGE_PREFILL);
  return planPicker(plan) == 0 ? 0 : plan;
}

/** The profile by which encode endpoints of multimodal requests are found; 0 = none runs. */
export function configEncodePlan(config: u32): usize {
  if (load<u8>(slotStages(<usize>config), STAGES_ENCODE) == 0) return 0;
  const plan = slotStagePlan(<usize>config, STAGE_ENCODE);
  return planPicker(plan) == 0 ? 0 : plan;
}

/** Whether any stage runs beside decode. */
export function configHasStages(config: u32): bool {
  return configPrefillPlan(config) != 0 || configEncodePlan(config) != 0;
}

/** PLUGIN_*_DECIDER that is asked whether a prompt is computed elsewhere; 0 = it always is (prefill-first). */
export function configPrefillDecider(config: u32): u32 {
  return load<u32>(slotStages(<usize>config), STAGES_DECIDER);
}

/** Whether the prefill endpoint is chosen before the decode endpoint. */
export function configPrefillFirst(config: u32): bool {
  return load<u8>(slotStages(<usize>config), STAGES_PREFILL_FIRST) != 0;
}

/** prefix-based-pd-decider: uncached tokens from which a prompt is computed elsewhere; 0 = none is. */
export function configNonCachedTokens(config: u32): f64 {
  return load<f64>(slotStages(<usize>config), STAGES_NON_CACHED);
}

/** prefix-based-pd-decider: tokens below which a prompt never is. */
export function configPromptTokens(config: u32): f64 {
  return load<f64>(slotStages(<usize>config), STAGES_PROMPT);
}

/** MODE_*: who calls the prefill endpoint. */
export function configStageMode(config: u32): u32 {
  return <u32>load<u8>(slotStages(<usize>config), STAGES_MODE);
}

/** PROTOCOL_* between the engines. */
export function configProtocol(config: u32): u32 {
  return <u32>load<u8>(slotStages(<usize>config), STAGES_PROTOCOL);
}

/** Whether a body with KV parameters may go to the next decode host when one refuses the connection. */
export function configDecodeRetries(config: u32): bool {
  return load<u8>(slotStages(<usize>config), STAGES_DECODE_RETRY) != 0;
}

/** Body bytes held for a prefill that the filter calls. */
export function configPrefillBodyBytesMax(config: u32): u32 {
  return load<u32>(slotStages(<usize>config), STAGES_BODY_BYTES);
}

/** Envoy cluster (Text) of the prefill endpoints; 0 = the route's own. */
export function configPrefillCluster(config: u32): usize {
  return <usize>load<u32>(slotStages(<usize>config), STAGES_CLUSTER);
}

/** After how many ms a prefill is given up. */
export function configPrefillTimeoutMs(config: u32): u32 {
  return load<u32>(slotStages(<usize>config), STAGES_TIMEOUT_MS);
}

/** Port of the prefill endpoints' SGLang bootstrap servers. */
export function configBootstrapPort(config: u32): u32 {
  return load<u32>(slotStages(<usize>config), STAGES_BOOTSTRAP_PORT);
}

/** ms that the KV cache of a token takes from endpoint to endpoint, as configured. */
export function configTransferTokenMs(config: u32): f64 {
  const stages = slotStages(<usize>config);
  return load<f64>(stages, STAGES_KV_BYTES) / load<f64>(stages, STAGES_TRANSFER_RATE);
}

/** By how many ms a prefill elsewhere must be the faster one. */
export function configMinGainMs(config: u32): f64 {
  return load<f64>(slotStages(<usize>config), STAGES_MIN_GAIN_MS);
}

/** Whether x-data-parallel-host-port names the endpoint, and the destination its pod's primary port. */
export function configDataParallel(config: u32): bool {
  return load<u8>(slotStages(<usize>config), STAGES_DATA_PARALLEL) != 0;
}

/** That port. */
export function configPrimaryPort(config: u32): u32 {
  return load<u32>(slotStages(<usize>config), STAGES_PRIMARY_PORT);
}
