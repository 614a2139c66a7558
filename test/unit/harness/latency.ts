// The latency picker with what it learns from and what workers tell each other, as one small module for Node.
export * from "./schedule";
export { brokenMs } from "../../../assembly/schedule/broken-wishes";
export { latencyReason } from "../../../assembly/schedule/latency-picker";
export {
  costMissPrice,
  costModelShare,
  costOf,
  costPrefillMs,
  costTpotMs,
  costWaitMs,
} from "../../../assembly/schedule/latency-cost";
export { objectiveSet, objectiveTpotMs, objectiveTtftMs } from "../../../assembly/schedule/objective-slos";
export { planSetPicker, planSetPickerInstance } from "../../../assembly/schedule/plan";
export { requestSetMaxTokens, requestSetSlos, requestSetTieKey } from "../../../assembly/schedule/request";
export { rowF64 } from "../../../assembly/pool/rows";
export { poolNoteMovable, poolNoteTokens } from "../../../assembly/pool/means";
export { poolAdd } from "../../../assembly/pool/table";
export {
  poolIsMeasured,
  poolPrefillSamples,
  prefillBaseMs,
  prefillSamples,
  prefillTokenMs,
  rateBegin,
  rateFirstToken,
  rateTpot,
  ratesBeginOthers,
  ratesOf,
  ratesRegimeMs,
  tpotMs,
  tpotSamples,
} from "../../../assembly/pool/rates";
export {
  isLittleMovable,
  pairHasPrompt,
  pairPrompt,
  pairPromptNext,
  pairsBegin,
  pairsOff,
  pairsTakePrompt,
  pairsWhole,
} from "../../../assembly/schedule/pairs";
export {
  noteFirstToken,
  releaseLegAt,
  releaseRequest,
  releaseTokens,
  reserve,
  reserveLegAt,
} from "../../../assembly/flow/reservations";
export { tpotSloAdd, tpotSloRemove } from "../../../assembly/flow/tpot-slos";
export {
  cellAdd,
  cellBuild,
  cellBytes,
  cellCheck,
  cellPtr,
  cellsBegin,
  cellsEnd,
} from "../../../assembly/flow/cell";
export { ratesBuild, ratesBytes, ratesCheck, ratesPtr, ratesTake } from "../../../assembly/flow/rates";
