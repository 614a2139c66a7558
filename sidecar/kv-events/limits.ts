// Limits of what comes from engines as KV events; what happens beyond stands beside each.

/** Bytes of one ZeroMQ message. The connection of a larger one is closed, which is a gap in the events. */
export const MESSAGE_BYTES_MAX = 4_194_304;
/** Events of one batch. A larger batch is a bad message. */
export const EVENTS_PER_BATCH_MAX = 65_536;
/**
 * Hashes of one event: more than a message has room for. SGLang, with pages of one token, removes a long prompt in one
 * event. An event with more makes its batch a bad message.
 */
export const HASHES_PER_EVENT_MAX = 524_288;
/** Tokens of one event. An event with more makes its batch a bad message. */
export const TOKENS_PER_EVENT_MAX = 1_048_576;
/** Tokens of one block. A larger block size makes the batch a bad message. */
export const BLOCK_TOKENS_MAX = 8_192;
/** Bytes of a hash that comes as bytes (vLLM's SHA-256 has 32). A longer one makes the batch a bad message. */
export const HASH_BYTES_MAX = 64;
/** Bytes of a name, a salt or a key. A longer one makes the batch a bad message. */
export const TEXT_BYTES_MAX = 4_096;
/** Extra keys of one block. More make the batch a bad message. */
export const EXTRA_KEYS_MAX = 256;
/** KV cache groups of one engine, numbered from 0. An event of a higher one makes its batch a bad message. */
export const GROUPS_MAX = 64;
/** Arrays and maps within one another in a message; the deepest that engines send is 6. */
export const DEPTH_MAX = 8;
/** Data-parallel ranks of one replica. */
export const RANKS_MAX = 64;
/** ZeroMQ sockets of the process, the most that its library takes. An engine beyond is tried again every 5 s. */
export const SOCKETS_MAX = 65_535;
/** Blocks kept of one replica and rank unless configured. Further ones are left out: DEGRADED(too-many-blocks). */
export const BLOCKS_MAX = 262_144;
/** Highest number of blocks that can be configured to be kept. */
export const BLOCKS_CONFIGURED_MAX = 4_194_304;
/**
 * Text kept of one replica and rank: so much for each of its blocks, and at least so much in all (30 million tokens of
 * English). Blocks beyond have none, as if they were too many: DEGRADED(too-many-blocks).
 */
export const VIEW_TEXT_BYTES_A_BLOCK = 512;
export const VIEW_TEXT_BYTES_MIN = 134_217_728;
/** Roots that equal chains share one object of. When there are more, sharing starts anew; nothing is lost. */
export const SHARED_ROOTS_MAX = 16_384;
/** Messages that wait unread in a live subscription. Beyond it the engine keeps them, and drops at its own limit. */
export const LIVE_MESSAGES_MAX = 256;
/** Messages that wait unread in a replay. Beyond it the engine drops some, and they are asked for again. */
export const REPLAY_MESSAGES_MAX = 4_096;
/** Engines of the process that are asked at once for all that they keep. Further ones are catching up meanwhile. */
export const LONG_REPLAYS_MAX = 2;
/** Token ids whose bytes are kept: ids are below it. A higher id is unknown. */
export const TOKEN_IDS_MAX = 2_097_152;
/** Bytes of a tokenizer.json (Gemma's has 33 MB). A larger one is refused. */
export const TOKENIZER_FILE_BYTES_MAX = 134_217_728;
/** Bytes of one token. A longer one is refused in a tokenizer.json and unknown when learnt. */
export const TOKEN_BYTES_MAX = 1_024;
