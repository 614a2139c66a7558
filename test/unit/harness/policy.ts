// The pool policy as one small module: its check, priorities, matching, and the split over targets.
import "../../../assembly/abi/abort";
export {
  objectivePriority,
  policyId,
  policyKnown,
  policyObjective,
  policyObjectives,
  policyReceivedMs,
  policyRule,
  policyRules,
  policySequence,
  policySkip,
  policyTake,
  ruleSplits,
  ruleTarget,
  targetModelBytes,
  targetModelPtr,
} from "../../../assembly/pool/policy";
export { policyCheck } from "../../../assembly/pool/policy-check";
export { faultField, faultFieldBytes, faultMessage, faultMessageBytes } from "../../../assembly/pool/fault";

const scratch: usize = memory.data(524288, 16);

/** Memory for what a test lays down: 512 KiB. */
export function scratchPtr(): usize {
  return scratch;
}
