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
