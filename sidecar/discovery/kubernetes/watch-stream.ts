// The events of a watch: one JSON object a line, in chunks cut anywhere.
import { z } from "zod";
import { KubernetesProtocolError } from "./errors.ts";
import { WATCH_LINE_BYTES_MAX } from "./limits.ts";

const eventSchema = z.looseObject({
  type: z.enum(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]),
  object: z.looseObject({}),
});
export type WatchEvent = z.output<typeof eventSchema>;

const NEWLINE = 0x0a;

/**
 * Reads a watch until its end. What stands after the last line break when the connection ends is the start of an
 * event that was never sent whole: it is dropped, and comes again from the resource version before it.
 * @param chunks the response's body
 * @param target for messages
 * @throws KubernetesProtocolError for a line that is too long or not an event; what `chunks` throws
 */
export async function* watchEvents(
  chunks: AsyncIterable<Buffer>,
  target: string,
): AsyncGenerator<WatchEvent> {
  let parts: Buffer[] = [];
  let partsBytes = 0;
  for await (const chunk of chunks) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      parts.push(chunk.subarray(from, end));
      const line = Buffer.concat(parts).toString("utf8");
      parts = [];
      partsBytes = 0;
      from = end + 1;
      if (line.trim() !== "") yield parseEvent(line, target);
    }
    if (from === chunk.length) continue;
    parts.push(chunk.subarray(from));
    partsBytes += chunk.length - from;
    if (partsBytes > WATCH_LINE_BYTES_MAX) {
      throw new KubernetesProtocolError(target, `an event of more than ${WATCH_LINE_BYTES_MAX} bytes`);
    }
  }
}

function parseEvent(line: string, target: string): WatchEvent {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new KubernetesProtocolError(target, (error as Error).message);
  }
  const checked = eventSchema.safeParse(value);
  if (!checked.success) throw new KubernetesProtocolError(target, `not a watch event: ${line.slice(0, 100)}`);
  return checked.data;
}
