// Loads an EndpointPickerConfig (JSON) into a slot: all of it is checked before any of it counts.
//
// Where a wrong document goes: nowhere. The first fault is told with its path, value and what was expected
// (errors.ts), and the caller keeps what it had.
import { JSON_OK } from "../json/events";
import {
  KIND_OBJECT,
  NO_NODE,
  TREE_TOO_LONG,
  TREE_TOO_MANY_NODES,
  treeCount,
  treeDuplicateCount,
  treeDuplicateNode,
  treeErrorCode,
  treeErrorOffset,
  treeKeyLen,
  treeKeyPtr,
  treeKind,
  treeParse,
  treeRoot,
  treeTextIs,
} from "../json/tree";
import { planSetUnknownMean } from "../schedule/plan";
import { defaultPlan } from "./default-plan";
import { disaggregationDefaults } from "./disaggregation-parameters";
import {
  errorsReset,
  isRefused,
  noticeBegin,
  noticeEnd,
  pathKey,
  pathBack,
  pathMark,
  refuse,
  refuseBegin,
  refuseEnd,
  refuseFor,
  say,
  sayNumber,
} from "./errors";
import { arrayField, field, fieldsReset, objectBegin, objectEnd, objectField, refuseField } from "./fields";
import { SETTING_UNKNOWN_MEAN, gatewayDefaults } from "./gateway-parameters";
import {
  dataLayerRead,
  featureGatesRead,
  flowControlRead,
  parsersRead,
  saturationRead,
} from "./other-sections";
import { hasDisaggregation, hasSchedulingPlugin, pluginsRead } from "./plugin-list";
import { STAGE_DECODE, STAGE_ENCODE, runsStages } from "./profile-handlers";
import { profilesRead } from "./profiles";
import { slotSettings, slotStagePlan, slotStages } from "./slots";
import { STAGES_ENCODE, STAGES_PREFILL } from "./stages-layout";

/** Fills an empty slot from `bytes` bytes at `ptr`; none, or {}, mean all defaults. False: refused. */
export function documentLoad(ptr: usize, bytes: u32, slot: usize): bool {
  errorsReset();
  fieldsReset();
  gatewayDefaults(slot);
  disaggregationDefaults(slot);
  if (bytes == 0) {
    defaultPlan(slot);
    return true;
  }
  if (treeParse(ptr, bytes) != JSON_OK) return refuseSyntax();
  const root = treeRoot();
  if (treeKind(root) != KIND_OBJECT) return refuse(root, "an object: an EndpointPickerConfig");
  if (treeDuplicateCount() > 0) return refuseDuplicate();
  if (treeCount(root) == 0) {
    defaultPlan(slot);
    return true;
  }
  return readDocument(root, slot);
}

function readDocument(root: i32, slot: usize): bool {
  objectBegin(root);
  checkHead();
  const gates = arrayField("featureGates");
  const plugins = arrayField("plugins");
  const profiles = arrayField("schedulingProfiles");
  const data = objectField("dataLayer");
  const handler = objectField("requestHandler");
  const parser = objectField("parser");
  const saturation = objectField("saturationDetector");
  const flow = objectField("flowControl");
  if (!objectEnd()) return false;
  if (!pluginsRead(plugins, slot)) return false;
  featureGatesRead(gates);
  if (data >= 0 && !isRefused()) dataLayerRead(data);
  if (!isRefused()) parsersRead(handler, parser);
  saturationRead(saturation);
  flowControlRead(flow);
  if (isRefused()) return false;
  return compilePlan(profiles, slot);
}

function compilePlan(profiles: i32, slot: usize): bool {
  if (!planOf(profiles, slot)) return false;
  const stages = slotStages(slot);
  const isElsewhere = load<u8>(stages, STAGES_PREFILL) != 0 || load<u8>(stages, STAGES_ENCODE) != 0;
  if (hasDisaggregation() && !isElsewhere) {
    noticeBegin();
    say("epp-wasm-disaggregation: no effect: no profile handler has a decider for prefill or encode");
    noticeEnd();
  }
  return true;
}

function planOf(profiles: i32, slot: usize): bool {
  if (treeCount(profiles) == 0 && !hasSchedulingPlugin() && !runsStages()) {
    // llm-d would pick at random here; a document of settings alone asks for the defaults.
    defaultPlan(slot);
    noticeBegin();
    say("no scheduling plugin is configured: the default profile is used");
    noticeEnd();
    return true;
  }
  if (!profilesRead(profiles, slot)) return false;
  const isMean = load<u8>(slotSettings(slot), SETTING_UNKNOWN_MEAN) != 0;
  for (let stage = STAGE_DECODE; stage <= STAGE_ENCODE; stage++) {
    planSetUnknownMean(slotStagePlan(slot, stage), isMean);
  }
  return true;
}

function checkHead(): void {
  const version = field("apiVersion");
  if (
    !treeTextIs(version, "llm-d.ai/v1alpha1") &&
    !treeTextIs(version, "inference.networking.x-k8s.io/v1alpha1")
  ) {
    refuseField("apiVersion", version, '"llm-d.ai/v1alpha1"');
  }
  const kind = field("kind");
  if (!treeTextIs(kind, "EndpointPickerConfig")) refuseField("kind", kind, '"EndpointPickerConfig"');
}

function refuseSyntax(): bool {
  const code = treeErrorCode();
  if (code == TREE_TOO_LONG) return refuseFor(NO_NODE, "the document is longer than 65536 bytes");
  if (code == TREE_TOO_MANY_NODES) return refuseFor(NO_NODE, "the document has more than 4096 values");
  if (refuseBegin(NO_NODE)) {
    say(" — no valid JSON at byte ");
    sayNumber(treeErrorOffset());
    refuseEnd();
  }
  return false;
}

function refuseDuplicate(): bool {
  const node = treeDuplicateNode();
  const mark = pathMark();
  pathKey(treeKeyPtr(node), min<u32>(treeKeyLen(node), 64));
  refuseFor(node, "this field stands twice in one object");
  pathBack(mark);
  return false;
}
