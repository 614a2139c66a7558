// Runs texts through the compiled JSON scanner and gives its events as lines of text.
import { startHarness } from "./harness.ts";

interface JsonExports {
  inputPtr(): number;
  inputBytesMax(): number;
  recordsPtr(): number;
  recordedBytes(): number;
  stateBytes(): number;
  errorCode(): number;
  errorOffset(): number;
  done(): number;
  depth(): number;
  reset(integers: number, stop: number): void;
  feed(from: number, len: number, chunk: number): number;
  end(): number;
  treeParse(ptr: number, len: number): number;
  treeRoot(): number;
  treeKind(node: number): number;
  treeFirst(node: number): number;
  treeNext(node: number): number;
  treeCount(node: number): number;
  treeKeyPtr(node: number): number;
  treeKeyLen(node: number): number;
  treeTextPtr(node: number): number;
  treeTextLen(node: number): number;
  treeNumber(node: number): number;
  treeDuplicateCount(): number;
  treeDuplicateNode(): number;
  treeErrorCode(): number;
  treeErrorOffset(): number;
}

/** Names of assembly/json/events.ts's JSON_* codes. */
export const ERROR_NAMES = [
  "ok",
  "stopped",
  "unexpected-end",
  "expected-value",
  "expected-key",
  "expected-colon",
  "expected-comma",
  "trailing",
  "too-deep",
  "control-character",
  "bad-escape",
  "bad-utf8",
  "bad-number",
  "bad-literal",
];

const NAMES = [
  "",
  "{",
  "}",
  "[",
  "]",
  "key",
  "key",
  "string",
  "string",
  "number",
  "true",
  "false",
  "null",
  "integers",
];
const KEY_PIECE = 5;
const STRING_PIECE = 7;
const INTEGERS = 13;
const NEVER = 0xffffffff;

export interface Result {
  /** One line an event, pieces joined; the last line is `end` or `error <name> at <offset>`. */
  readonly lines: string[];
  readonly code: number;
  readonly offset: number;
}

export class JsonScanner {
  readonly exports: JsonExports & { memory: WebAssembly.Memory };

  private constructor(exports: JsonExports & { memory: WebAssembly.Memory }) {
    this.exports = exports;
  }

  static async start(): Promise<JsonScanner> {
    return new JsonScanner(await startHarness<JsonExports>("json"));
  }

  /** Copies bytes to the input buffer. */
  put(bytes: Uint8Array): void {
    if (bytes.length > this.exports.inputBytesMax()) throw new RangeError(`input of ${bytes.length} bytes`);
    new Uint8Array(this.exports.memory.buffer).set(bytes, this.exports.inputPtr());
  }

  /** Scans a text in chunks of `chunk` bytes. */
  scan(
    bytes: Uint8Array,
    { chunk = Math.max(bytes.length, 1), integers = false, stopAfter = NEVER } = {},
  ): Result {
    this.put(bytes);
    this.exports.reset(integers ? 1 : 0, stopAfter);
    this.exports.feed(0, bytes.length, chunk);
    return this.finish();
  }

  /** Scans a text cut at the given places. */
  scanParts(bytes: Uint8Array, cuts: readonly number[]): Result {
    this.put(bytes);
    this.exports.reset(0, NEVER);
    let from = 0;
    for (const to of [...cuts, bytes.length]) {
      this.exports.feed(from, to - from, Math.max(to - from, 1));
      from = to;
    }
    return this.finish();
  }

  private finish(): Result {
    const code = this.exports.end();
    const offset = this.exports.errorOffset();
    const lines = this.recorded();
    lines.push(code === 0 ? "end" : `error ${ERROR_NAMES[code]} at ${offset}`);
    return { lines, code, offset };
  }

  private recorded(): string[] {
    const memory = Buffer.from(this.exports.memory.buffer);
    const lines: string[] = [];
    const end = this.exports.recordsPtr() + this.exports.recordedBytes();
    let pieces: Buffer[] = [];
    let integers: number[] = [];
    for (let at = this.exports.recordsPtr(); at < end;) {
      const event = memory.readUInt32LE(at);
      const bytes = memory.readUInt32LE(at + 4);
      const text = memory.subarray(at + 8, at + 8 + bytes);
      at += 8 + bytes;
      if (event === INTEGERS) {
        for (let i = 0; i < bytes; i += 4) integers.push(text.readUInt32LE(i));
        continue;
      }
      if (integers.length > 0) lines.push(`integers ${integers.join(" ")}`);
      integers = [];
      if (event === KEY_PIECE || event === STRING_PIECE) {
        pieces.push(Buffer.from(text));
        continue;
      }
      lines.push(line(event, Buffer.concat([...pieces, text])));
      pieces = [];
    }
    if (integers.length > 0) lines.push(`integers ${integers.join(" ")}`);
    if (pieces.length > 0) lines.push(`open ${JSON.stringify(Buffer.concat(pieces).toString())}`);
    return lines;
  }
}

function line(event: number, text: Buffer): string {
  const name = NAMES[event]!;
  if (name === "key" || name === "string") return `${name} ${JSON.stringify(text.toString())}`;
  return name === "number" ? `number ${text.toString()}`.trimEnd() : name;
}
