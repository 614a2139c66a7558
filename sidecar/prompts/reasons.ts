// Why prompts are not rendered as an engine does it: of a whole model, or of one literal of its template.

export const PROMPT_REASONS = [
  /** No replica was asked yet. */
  "starting",
  /** No replica could be asked. */
  "unreachable",
  /** The bytes of a rendered token are not known. */
  "unknown-token",
  /** The server renders no conversations, or not this one: a template that refuses an order of roles. */
  "refused",
  /** A content stands elsewhere in the text than in the conversation, more than once, or not at all. */
  "reordered",
  /** A literal depends on what else is in the conversation. */
  "position-dependent",
  /** A literal holds the present date or time. */
  "dated",
  /** A literal has more than PROMPT_LITERAL_BYTES_MAX bytes. */
  "literal-too-long",
  /** Contents are changed in a way that is no trim. */
  "contents-edited",
  /** One server renders another text than it did before. */
  "changing",
  /** Two replicas render different texts. */
  "replicas-differ",
  /** An adapter is rendered otherwise than its base model. */
  "adapters-differ",
  /** The programs or models of a pool are more than the gateway takes. */
  "no-room",
] as const;
export type PromptReason = (typeof PROMPT_REASONS)[number];
