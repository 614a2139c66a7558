// Where configurations live: eight fixed places, each with its plan, settings, plugin instances and texts.
import { INSTANCE_BYTES, NO_HEADER, PLAN_BYTES, instanceReset } from "../schedule/plan";
import { REQUEST_HEADERS_MAX } from "../schedule/request";
import { STAGES_BYTES } from "./stages-layout";

/** Configurations alive at once: the present one and those whose streams still run. One more is refused. */
export const CONFIGS_MAX: u32 = 8;
/** Plugins of one document; one with more is refused. */
export const PLUGINS_MAX: u32 = 64;
/** Bytes for all texts and lists of one configuration; one that needs more is refused. */
export const CONFIG_TEXT_BYTES_MAX: u32 = 16384;

//   ┌ configuration, 21,920 bytes ───────────────────────────────────────────────────────┐
//   │ 0 u32 in use   4 u32 instances   8 u32 text bytes used   12 u32 headers             │
//   │ 16 plan, 336   352 settings, 128 (gateway-parameters.ts)                            │
//   │ 480 u32 header name[8]   512 u32 session header   640 instances, 64 × 64            │
//   │ 4736 texts and lists, 16,384   21120 plans of prefill and encode, 336 each          │
//   │ 21792 stages, 128 (stages-layout.ts)                                                │
//   └─────────────────────────────────────────────────────────────────────────────────────┘
const SLOT_BYTES: usize = 21920;
const AT_INSTANCES: usize = 4;
const AT_TEXT_USED: usize = 8;
const AT_HEADERS: usize = 12;
const AT_PLAN: usize = 16;
const AT_SETTINGS: usize = 352;
const AT_HEADER_NAMES: usize = 480;
const AT_SESSION_HEADER: usize = 512;
const AT_INSTANCE_LIST: usize = 640;
const AT_TEXTS: usize = 4736;
const AT_MORE_PLANS: usize = 21120;
const AT_STAGES: usize = 21792;
export const SETTINGS_BYTES: usize = 128;

const slots: usize = memory.data(8 * 21920, 16);
if (AT_MORE_PLANS + 2 * PLAN_BYTES != AT_STAGES || AT_STAGES + STAGES_BYTES != SLOT_BYTES) unreachable();

/** Takes a free place, emptied; 0 when all are taken. */
export function slotTake(): usize {
  for (let i: u32 = 0; i < CONFIGS_MAX; i++) {
    const slot = slots + <usize>i * SLOT_BYTES;
    if (load<u32>(slot) != 0) continue;
    memory.fill(slot, 0, AT_INSTANCE_LIST);
    memory.fill(slot + AT_MORE_PLANS, 0, SLOT_BYTES - AT_MORE_PLANS);
    store<u32>(slot, 1);
    return slot;
  }
  return 0;
}

/** Gives the place back. */
export function slotFree(slot: usize): void {
  store<u32>(slot, 0);
}

/** Places taken. */
export function slotsInUse(): u32 {
  let count: u32 = 0;
  for (let i: u32 = 0; i < CONFIGS_MAX; i++) count += load<u32>(slots + <usize>i * SLOT_BYTES);
  return count;
}

export function slotPlan(slot: usize): usize {
  return slot + AT_PLAN;
}

/** The plan of a stage (profile-handlers.ts); decode's is slotPlan(). */
export function slotStagePlan(slot: usize, stage: u32): usize {
  return stage == 0 ? slotPlan(slot) : slot + AT_MORE_PLANS + <usize>(stage - 1) * PLAN_BYTES;
}

/** What runs beside the first plan (stages-layout.ts). */
export function slotStages(slot: usize): usize {
  return slot + AT_STAGES;
}

export function slotSettings(slot: usize): usize {
  return slot + AT_SETTINGS;
}

/** A new plugin instance of a type; 0 when PLUGINS_MAX are there. */
export function slotInstance(slot: usize, type: u32): usize {
  const count = load<u32>(slot, AT_INSTANCES);
  if (count >= PLUGINS_MAX) return 0;
  store<u32>(slot, count + 1, AT_INSTANCES);
  const instance = slot + AT_INSTANCE_LIST + <usize>count * INSTANCE_BYTES;
  instanceReset(instance, type);
  return instance;
}

/** `bytes` bytes of the slot's memory, 8-byte aligned; 0 when CONFIG_TEXT_BYTES_MAX are used up. */
export function slotAlloc(slot: usize, bytes: u32): usize {
  const used = load<u32>(slot, AT_TEXT_USED);
  const size = (bytes + 7) & ~7;
  if (size > CONFIG_TEXT_BYTES_MAX - used) return 0;
  store<u32>(slot, used + size, AT_TEXT_USED);
  return slot + AT_TEXTS + used;
}

/** Keeps a copy as a Text (text/text.ts: the length in the four bytes before); 0 when there is no room. */
export function slotText(slot: usize, ptr: usize, bytes: u32): usize {
  const at = slotAlloc(slot, bytes + 4);
  if (at == 0) return 0;
  store<u32>(at, bytes);
  memory.copy(at + 4, ptr, bytes);
  return at + 4;
}

/** Index of a request header that plugins read; one per name, case aside. NO_HEADER: no room. */
export function slotHeader(slot: usize, ptr: usize, bytes: u32): u32 {
  const text = slotText(slot, ptr, bytes);
  if (text == 0) return NO_HEADER;
  for (let i: u32 = 0; i < bytes; i++) {
    const char = load<u8>(text + i);
    if (char >= 65 && char <= 90) store<u8>(text + i, char + 32);
  }
  const count = slotHeaders(slot);
  for (let i: u32 = 0; i < count; i++) {
    const known = slotHeaderName(slot, i);
    if (load<u32>(known - 4) == bytes && memory.compare(known, text, bytes) == 0) return i;
  }
  if (count >= REQUEST_HEADERS_MAX) return NO_HEADER;
  store<u32>(slot + ((<usize>count) << 2), <u32>text, AT_HEADER_NAMES);
  store<u32>(slot, count + 1, AT_HEADERS);
  return count;
}

/** Request headers that the configuration's plugins read. */
export function slotHeaders(slot: usize): u32 {
  return load<u32>(slot, AT_HEADERS);
}

/** Name of the header at `index` < slotHeaders(), a Text in lower case. */
export function slotHeaderName(slot: usize, index: u32): usize {
  return <usize>load<u32>(slot + ((<usize>index) << 2), AT_HEADER_NAMES);
}

/** Name (Text) of the response header that carries the session's token, or 0. */
export function slotSessionHeader(slot: usize): usize {
  return <usize>load<u32>(slot, AT_SESSION_HEADER);
}

export function slotSetSessionHeader(slot: usize, name: usize): void {
  store<u32>(slot, <u32>name, AT_SESSION_HEADER);
}
