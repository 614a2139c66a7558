// The pool policy: priorities by objective name and model rewrites, pushed whole. Constants only; little-endian.
//
//   POST /v1/pools/<name>/policy    body = header · objectives · rules · targets · UTF-8 bytes
//
//   ┌ header, 64 bytes ────────────────────────────────────────────────────────────────┐
//   │ 0  u32 magic "EPL1"      4 u16 version   6 u16 header bytes (64)                  │
//   │ 8  u32 checksum of [12, total), as in snapshot.ts       12 u32 total bytes        │
//   │ 16 u64 policy id: 1 to 2^48 - 1, the same for the same content                    │
//   │ 24 u32 objectives   28 u32 rules   32 u32 targets   36…63 zero                    │
//   ├ objectives × 16 bytes, names strictly ascending by their bytes ───────────────────┤
//   │ 0 u32 name offset   4 u32 name bytes   8 i32 priority   12 u32 zero               │
//   ├ rules × 16 bytes, models strictly ascending, the rule for any model last ─────────┤
//   │ 0 u32 model offset  4 u32 model bytes (0 = any model)                             │
//   │ 8 u32 first target (index)   12 u32 targets; rules take all targets in order      │
//   ├ targets × 16 bytes ───────────────────────────────────────────────────────────────┤
//   │ 0 u32 model offset  4 u32 model bytes   8 u32 weight   12 u32 zero                │
//   ├ bytes ────────────────────────────────────────────────────────────────────────────┤
//   └───────────────────────────────────────────────────────────────────────────────────┘
//
// All offsets count from the start of the policy.

export const POLICY_MAGIC = 0x314c5045;
export const POLICY_WIRE_VERSION = 1;
export const POLICY_HEADER_BYTES = 64;
/** Bytes of an objective, of a rule and of a target. */
export const POLICY_RECORD_BYTES = 16;

export const POLICY_AT_MAGIC = 0;
export const POLICY_AT_VERSION = 4;
export const POLICY_AT_HEADER_BYTES = 6;
export const POLICY_AT_CHECKSUM = 8;
export const POLICY_AT_TOTAL_BYTES = 12;
export const POLICY_AT_ID = 16;
export const POLICY_AT_OBJECTIVES = 24;
export const POLICY_AT_RULES = 28;
export const POLICY_AT_TARGETS = 32;

/** In every record: where its text is, and how long. */
export const POLICY_RECORD_AT_TEXT = 0;
export const POLICY_RECORD_AT_TEXT_BYTES = 4;
export const OBJECTIVE_AT_PRIORITY = 8;
export const RULE_AT_FIRST_TARGET = 8;
export const RULE_AT_TARGETS = 12;
export const TARGET_AT_WEIGHT = 8;

/** Bytes of one policy. The sidecar does not push a larger one, the gateway refuses it with 413. */
export const POLICY_BYTES_MAX = 98304;
/** Objectives of one policy. The sidecar leaves out the surplus, last by name, and counts it. */
export const POLICY_OBJECTIVES_MAX = 1024;
/** Rewrite rules of one policy. The sidecar leaves out the surplus, last in precedence, and counts it. */
export const POLICY_RULES_MAX = 256;
/** Targets of one rule. The sidecar leaves a rule with more out and counts it. */
export const POLICY_RULE_TARGETS_MAX = 16;
/** Bytes of an objective's name (Kubernetes' own limit). */
export const POLICY_NAME_BYTES_MAX = 253;
/** Bytes of a model's name. The sidecar leaves a rule with a longer one out and counts it. */
export const POLICY_MODEL_BYTES_MAX = 256;
/** Largest weight of a target (InferenceModelRewrite's own limit). */
export const POLICY_WEIGHT_MAX = 1000000;
/** Answer header of an accepted snapshot: the id of the policy that the gateway holds for the pool, 0 = none. */
export const POLICY_ID_HEADER = "x-epp-policy-id";
