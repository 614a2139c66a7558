// The ZeroMQ library, loaded when the first subscription needs it: it is native code that most sidecars never run.
import type * as Zeromq from "zeromq";
import { ZeromqMissingError } from "../errors.ts";
import { SOCKETS_MAX } from "./limits.ts";

/** Its socket classes. */
export type ZeromqLibrary = Pick<typeof Zeromq, "Subscriber" | "Dealer">;

let loading: Promise<ZeromqLibrary> | undefined;

/**
 * Loads it. A subscription takes three sockets, a replay three more; the library's own limit of 1,023 a process would
 * end at 341 engines.
 * @throws ZeromqMissingError when it is not installed, or not for this system
 */
export function loadZeromq(): Promise<ZeromqLibrary> {
  loading ??= import("zeromq").then(
    // The module is CommonJS: all its names are on the default export.
    ({ default: library }): ZeromqLibrary => {
      // It counts from the first socket on.
      library.context.maxSockets = SOCKETS_MAX;
      return library;
    },
    (error: unknown) => {
      loading = undefined;
      throw new ZeromqMissingError(error);
    },
  );
  return loading;
}

/** The errors of a receive that waited long enough, and of a socket that was closed meanwhile. */
export function isNothingReceived(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === "EAGAIN";
}

const SEQUENCE_BYTES = 8;

/** A sequence number's frame; null = it is none, or beyond 2^53. */
export function readSequence(frame: Uint8Array | undefined): number | null {
  if (frame?.length !== SEQUENCE_BYTES) return null;
  const value = Buffer.from(frame.buffer, frame.byteOffset, SEQUENCE_BYTES).readBigUInt64BE();
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : null;
}

/** A sequence number as it is sent. */
export function writeSequence(sequence: number): Buffer {
  const frame = Buffer.alloc(SEQUENCE_BYTES);
  frame.writeBigUInt64BE(BigInt(sequence));
  return frame;
}

/** Whether a frame is the end mark of a replay: −1. */
export function isEndMark(frame: Uint8Array | undefined): boolean {
  return frame?.length === SEQUENCE_BYTES && frame.every((byte) => byte === 0xff);
}
