// Asks an engine for the batches that it still has, from a number on.
import type { Dealer } from "zeromq";
import { LIVE_MESSAGES_MAX, MESSAGE_BYTES_MAX, REPLAY_MESSAGES_MAX } from "./limits.ts";
import type { Turns } from "./turns.ts";
import { isEndMark, isNothingReceived, readSequence, type ZeromqLibrary, writeSequence } from "./zeromq.ts";

/** One batch of a replay. */
export interface ReplayedMessage {
  readonly sequence: number;
  readonly payload: Uint8Array;
}

/** Takes the batches of a replay, in order; "stop" ends it. */
export type TakeReplayed = (message: ReplayedMessage) => Promise<"go on" | "stop"> | "go on" | "stop";

/** How a replay ended: by the end mark, because `take` had enough, or because nothing more came in time. */
export type ReplayEnd = "end" | "stopped" | "timeout";

/** Where to ask, and how long to wait for each message, ms. */
export interface ReplayTarget {
  readonly endpoint: string;
  readonly timeoutMs: number;
  /** Ends the wait early. */
  readonly signal: AbortSignal;
  /** Of those who may ask at once; null = without. Whoever cannot be reached takes none. */
  readonly turns: Turns | null;
}

/**
 * Asks for batches from number `start` on, and hands each to `take` as it comes.
 *
 * A DEALER sends ["", start u64 BE] to the engine's ROUTER. vLLM answers ["", topic, number, payload]… and
 * ["", "", −1, ""]; older engines leave the topic out of both (vllm/distributed/kv_events.py, `_service_replay`). A
 * ROUTER drops what its peer is too slow to take, so batches may be missing in the middle; the caller sees their numbers.
 * @param take gets each batch in order; "stop" ends the replay
 */
export async function requestReplay(
  zeromq: ZeromqLibrary,
  target: ReplayTarget,
  start: number,
  take: TakeReplayed,
): Promise<ReplayEnd> {
  const dealer = new zeromq.Dealer({
    linger: 0,
    receiveTimeout: target.timeoutMs,
    sendTimeout: target.timeoutMs,
    receiveHighWaterMark: REPLAY_MESSAGES_MAX,
    sendHighWaterMark: LIVE_MESSAGES_MAX,
    maxMessageSize: MESSAGE_BYTES_MAX,
    ipv6: true,
  });
  const close = (): void => dealer.close();
  target.signal.addEventListener("abort", close);
  try {
    if (target.signal.aborted) return "timeout";
    if (target.turns === null) {
      dealer.connect(target.endpoint);
      return await ask(dealer, start, take);
    }
    const isReached = await connect(dealer, target);
    return isReached ? await target.turns.do(() => ask(dealer, start, take)) : "timeout";
  } catch (error) {
    if (isNothingReceived(error) || target.signal.aborted) return "timeout";
    throw error;
  } finally {
    target.signal.removeEventListener("abort", close);
    if (!dealer.closed) dealer.close();
  }
}

/** @returns false: nobody is there, or the wait was ended */
function connect(dealer: Dealer, { endpoint, timeoutMs, signal }: ReplayTarget): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (isReached: boolean) => (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", given);
      resolve(isReached);
    };
    const given = end(false);
    const timer = setTimeout(given, timeoutMs);
    signal.addEventListener("abort", given);
    dealer.events.on("handshake", end(true));
    dealer.connect(endpoint);
  });
}

async function ask(dealer: Dealer, start: number, take: TakeReplayed): Promise<ReplayEnd> {
  await dealer.send(["", writeSequence(start)]);
  for (;;) {
    const frames = await dealer.receive();
    const number = frames.at(-2);
    if (isEndMark(number)) return "end";
    const sequence = readSequence(number);
    // Whoever answers with something else is no engine, and may go on for ever.
    if (sequence === null) return "timeout";
    if ((await take({ sequence, payload: frames.at(-1)! })) === "stop") return "stopped";
  }
}
