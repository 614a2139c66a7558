// The configuration reader, with the scheduler that runs what it compiles.
export * from "./schedule";
export {
  configBodyBytesMax,
  configDecisionBytesMax,
  configDestinations,
  configExplain,
  configExposeDecision,
  configFailClosed,
  configFree,
  configHeaderCount,
  configHeaderName,
  configLoad,
  configModelWaitBytesMax,
  configPlan,
  configPoolName,
  configPoolNameBytes,
  configResponseSampleEvery,
  configRetryBackoffMaxMs,
  configRetryBackoffMinMs,
  configRewriteBytesMax,
  configSessionHeader,
  configSnapshotAgeMaxMs,
  configTickMs,
  configTrustsModelHeader,
  configsInUse,
} from "../../../assembly/schema/settings";
export {
  schemaErrorBytes,
  schemaErrorPtr,
  schemaNoticeBytes,
  schemaNoticePtr,
} from "../../../assembly/schema/errors";
export {
  configBootstrapPort,
  configDataParallel,
  configDecodeRetries,
  configEncodePlan,
  configMinGainMs,
  configNonCachedTokens,
  configPrefillBodyBytesMax,
  configPrefillCluster,
  configPrefillDecider,
  configPrefillFirst,
  configPrefillPlan,
  configPrefillTimeoutMs,
  configPrimaryPort,
  configPromptTokens,
  configProtocol,
  configStageMode,
  configTransferTokenMs,
} from "../../../assembly/schema/stage-settings";
export { wantedStages } from "../../../assembly/schema/wanted-stages";
export { isPriced, isWorthIt } from "../../../assembly/schedule/disaggregate";
