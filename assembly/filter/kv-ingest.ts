// A pushed batch of index changes: whether it is the next of its session and has room in the ring, and the answer.
//
//   200 {"sequence":n,"wanted":[slot,…]}   taken, or taken before
//   409 {"error":{"field","message"}}      not the next batch of the session that the gateway knows
//   503 {"error":{"field","message"}}      a worker is KV_SEGMENTS batches behind; the same batch may be sent again
import { inboxMark, inboxReset } from "../abi/inbox";
import { KV_SEGMENTS } from "../wire/kv-deltas";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { kvSequence, kvSession } from "../flow/kv-batch";
import { writeBegin, writeByte, writeLength, writeLiteral, writeU64 } from "../text/text";
import { COUNT_KV_BAD, COUNT_KV_HELD, countUp } from "./counters";
import { kvGather, kvLeastSequence, kvSlotWanted } from "./kv-positions";
import { headSequence, headSession, readHead, storeBatch } from "./kv-ring";

/** Longest answer: 256 slots of 4 bytes and what is around them. */
const ANSWER_BYTES: u32 = 1280;
const answer: usize = memory.data(1280);
let answerLength: u32 = 0;

export function kvAnswerPtr(): usize {
  return answer;
}
export function kvAnswerBytes(): u32 {
  return answerLength;
}

/** Takes a checked batch for `pool`; returns the status of the answer, which stands at kvAnswerPtr(). */
export function kvTake(pool: u32, batch: usize, bytes: u32, nowMs: f64): u32 {
  const session = kvSession(batch);
  const sequence = kvSequence(batch);
  const mark = inboxMark();
  readHead(pool);
  inboxReset(mark);
  const isKnown = headSession() == session;
  const isRepeated = isKnown && headSequence() == sequence;
  if (!isRepeated && sequence != (isKnown ? headSequence() + 1 : 1)) {
    countUp(COUNT_KV_BAD);
    return refuse(
      409,
      isKnown ? "sequence" : "session",
      "not the next batch of the known session; begin another",
    );
  }
  kvGather(pool, session, sequence, nowMs);
  if (isRepeated) return tell(pool, sequence);
  const least = kvLeastSequence(pool);
  if (sequence > <u32>KV_SEGMENTS && least < sequence - KV_SEGMENTS) {
    countUp(COUNT_KV_HELD);
    return refuse(
      503,
      "sequence",
      "a worker has not applied what this batch would replace; send it again later",
    );
  }
  if (storeBatch(pool, session, sequence, batch, bytes)) return tell(pool, sequence);
  countUp(COUNT_KV_HELD);
  return refuse(503, "sequence", "another batch was taken at the same time; send it again");
}

function tell(pool: u32, sequence: u32): u32 {
  writeBegin(answer, ANSWER_BYTES);
  writeLiteral('{"sequence":');
  writeU64(sequence);
  writeLiteral(',"wanted":[');
  let isFirst = true;
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
    if (!kvSlotWanted(pool, slot)) continue;
    if (!isFirst) writeByte(44);
    isFirst = false;
    writeU64(slot);
  }
  writeLiteral("]}");
  answerLength = writeLength();
  return 200;
}

function refuse(status: u32, field: string, message: string): u32 {
  writeBegin(answer, ANSWER_BYTES);
  writeLiteral('{"error":{"field":"');
  writeLiteral(field);
  writeLiteral('","message":"');
  writeLiteral(message);
  writeLiteral('"}}');
  answerLength = writeLength();
  return status;
}
