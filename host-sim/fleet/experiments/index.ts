// Experiments with the fleet simulator: many runs that answer one question.
export {
  type AutoscalePlan,
  autoscaleReport,
  type AutoscaleResult,
  meanReplicas,
  runAutoscale,
} from "./autoscale.ts";
export { FIND_RATE_RUNS_MAX, type FoundRate, findRate, rateText } from "./find-rate.ts";
export { remembered, type RunFleetAt, type RunPoint, type Setting } from "./point.ts";
export {
  OURS,
  runTargets,
  SIMPLE,
  type SettingResults,
  TARGET_SETTINGS,
  type TargetPlan,
} from "./targets.ts";
export {
  type PdContender,
  type PdTargetPlan,
  type PdTargetResults,
  type PdVerdict,
  pdVerdicts,
  runPdTargets,
} from "./targets-pd.ts";
export { pdTargetsReport } from "./targets-pd-report.ts";
export { highestTable, targetsReport } from "./targets-report.ts";
export { type Verdict, verdictsOf } from "./verdicts.ts";
