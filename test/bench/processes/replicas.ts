// The replicas' process: one listener per replica that reads a request whole and answers it at once, or streams.
import { type AddressInfo, createServer, type Socket } from "node:net";
import { MODEL } from "../support/bodies.ts";
import { CHUNKS_HEADER, type ReplicasReady } from "../support/messages.ts";

/** Gap between two events of one stream: long enough that Envoy never finds two of them in one read. */
const EVENT_GAP_MS = 2;
const HEADERS_END = "\r\n\r\n";
const LENGTH = /\r\ncontent-length: (\d+)/i;
const CHUNKS = new RegExp(`\r\n${CHUNKS_HEADER}: (\\d+)`, "i");

const USAGE = { prompt_tokens: 256, completion_tokens: 200, total_tokens: 456 };
const IDENTITY = { id: "chatcmpl-8f2b7a", created: 1_750_000_000, model: MODEL };

const answer = (() => {
  const message = { role: "assistant", content: "It depends on the deployment. ".repeat(8) };
  const choices = [{ index: 0, message, finish_reason: "stop" }];
  const body = JSON.stringify({ ...IDENTITY, object: "chat.completion", choices, usage: USAGE });
  const head = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}`;
  return Buffer.from(head + HEADERS_END + body);
})();

/** What a prefill leg's body begins with, and its answer: parameters as long as those of a 25,000-token prompt. */
const PREFILL_START = '{"kv_transfer_params":{"do_remote_decode":true';
const prefilled = (() => {
  const blocks = Array.from({ length: 1_600 }, (_, index) => 100_000 + index);
  const params = { do_remote_prefill: true, remote_block_ids: [blocks], remote_engine_id: "e", tp_size: 1 };
  const body = JSON.stringify({ ...IDENTITY, choices: [], kv_transfer_params: params, usage: USAGE });
  const head = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}`;
  return Buffer.from(head + HEADERS_END + body);
})();

const streamHead = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked${HEADERS_END}`,
);
const event = chunked(`data: ${deltaEvent({ choices: [{ index: 0, delta: { content: " depends" } }] })}\n\n`);
const lastEvents = chunked(`data: ${deltaEvent({ choices: [], usage: USAGE })}\n\ndata: [DONE]\n\n`);
const streamEnd = Buffer.concat([lastEvents, Buffer.from("0\r\n\r\n")]);

function deltaEvent(fields: object): string {
  return JSON.stringify({ ...IDENTITY, object: "chat.completion.chunk", ...fields });
}

function chunked(text: string): Buffer {
  return Buffer.from(`${text.length.toString(16)}\r\n${text}\r\n`);
}

const streams = new Map<Socket, number>();
let timer: NodeJS.Timeout | undefined;

/** One event to every stream. */
function beat(): void {
  for (const [socket, left] of streams) {
    if (left > 1) {
      socket.write(event);
      streams.set(socket, left - 1);
      continue;
    }
    socket.write(streamEnd);
    streams.delete(socket);
  }
  if (streams.size > 0) return;
  clearInterval(timer);
  timer = undefined;
}

function respond(socket: Socket, chunks: number, isPrefill: boolean): void {
  if (isPrefill) {
    socket.write(prefilled);
    return;
  }
  if (chunks === 0) {
    socket.write(answer);
    return;
  }
  socket.write(streamHead);
  streams.set(socket, chunks);
  timer ??= setInterval(beat, EVENT_GAP_MS);
}

function serve(socket: Socket): void {
  socket.setNoDelay(true);
  let left = -1;
  let chunks = 0;
  let start = "";
  let head: Buffer = Buffer.alloc(0);
  socket.on("data", (piece) => {
    let bytes = piece as Buffer;
    if (left < 0) {
      if (head.length > 0) bytes = Buffer.concat([head, bytes]);
      const end = bytes.indexOf(HEADERS_END);
      if (end < 0) {
        head = bytes;
        return;
      }
      head = Buffer.alloc(0);
      const text = bytes.toString("latin1", 0, end);
      left = Number(LENGTH.exec(text)?.[1] ?? 0);
      chunks = Number(CHUNKS.exec(text)?.[1] ?? 0);
      bytes = bytes.subarray(end + HEADERS_END.length);
      start = "";
    }
    if (start.length < PREFILL_START.length) {
      start += bytes.toString("latin1", 0, PREFILL_START.length - start.length);
    }
    left -= bytes.length;
    if (left > 0) return;
    left = -1;
    respond(socket, chunks, start === PREFILL_START);
  });
  socket.on("error", () => {});
  socket.on("close", () => streams.delete(socket));
}

const count = Number(process.argv[2]);
const ports = await Promise.all(
  Array.from(
    { length: count },
    () =>
      new Promise<number>((settle) => {
        const server = createServer(serve);
        server.listen(0, "127.0.0.1", () => settle((server.address() as AddressInfo).port));
      }),
  ),
);
process.send!({ ports } satisfies ReplicasReady);
process.on("disconnect", () => process.exit(0));
