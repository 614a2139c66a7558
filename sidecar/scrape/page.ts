// Finds single metrics on a Prometheus text page and reads their lines, without parsing the rest of the page.
import { SERIES_MAX } from "../limits.ts";

const LINE_FEED = 10;
const TAB = 9;
const SPACE = 32;
const QUOTE = 34;
const COMMA = 44;
const EQUALS = 61;
const BACKSLASH = 92;
const BRACE_OPEN = 123;
const BRACE_CLOSE = 125;

/**
 * How far before its last place a metric is searched: pages grow and shrink by digits between two scrapes.
 */
const HINT_SLACK_BYTES = 512;

/** One line of a metric: offsets into the page. Reused for every line, so copy what must stay. */
export interface MetricLine {
  /** First byte after `{`; equals `labelsEnd` when the line has no labels. */
  labelsStart: number;
  /** The byte `}`. */
  labelsEnd: number;
  value: number;
}

/**
 * Remembers where one metric stood on the last page of one server, so that the next search is a few hundred
 * bytes instead of the page. The exposition format keeps all lines of a metric family together, which is
 * relied upon; between two lines of one name there may be others of the family (`_sum`, and `_created` in
 * OpenMetrics).
 */
export class MetricLocator {
  private readonly needle: Buffer;
  private readonly stemBytes: number;
  private hint = -1;
  private readonly line: MetricLine = { labelsStart: 0, labelsEnd: 0, value: 0 };

  /** @param name full metric name, with `_total` for counters */
  constructor(readonly name: string) {
    this.needle = Buffer.from(`\n${name}`, "latin1");
    this.stemBytes = name.replace(/_(total|count|sum|bucket|created)$/, "").length;
  }

  /** Whether the metric was on the last page searched. */
  get known(): boolean {
    return this.hint >= 0;
  }

  /** Offset of the metric's first line on `page`, or -1. */
  find(page: Buffer): number {
    let at = -1;
    if (this.hint >= 0) at = this.search(page, Math.max(0, this.hint - HINT_SLACK_BYTES));
    if (at < 0) at = this.search(page, 0);
    else at = this.firstOfGroup(page, at);
    this.hint = at;
    return at;
  }

  /**
   * Calls `take` for each line of the metric whose value is a number (NaN and infinities are left out).
   * @returns lines taken; lines beyond SERIES_MAX are not read
   */
  read(page: Buffer, take: (line: MetricLine, page: Buffer) => void): number {
    let at = this.find(page);
    let taken = 0;
    for (let count = 0; at >= 0 && at < page.length && count < SERIES_MAX; count++) {
      const end = lineEnd(page, at);
      if (this.startsAt(page, at)) {
        if (readLine(page, at + this.needle.length - 1, end, this.line)) {
          take(this.line, page);
          taken += 1;
        }
      } else if (!this.isFamily(page, at)) {
        break;
      }
      at = end + 1;
    }
    return taken;
  }

  /** Whether a line of this metric starts at `at`. */
  private startsAt(page: Buffer, at: number): boolean {
    const after = at + this.needle.length - 1;
    return after < page.length && endsName(page[after]!) && this.matches(page, at, this.needle.length - 1);
  }

  /** Whether a line of this metric's family starts at `at`. */
  private isFamily(page: Buffer, at: number): boolean {
    return at + this.stemBytes <= page.length && this.matches(page, at, this.stemBytes);
  }

  private matches(page: Buffer, at: number, bytes: number): boolean {
    for (let index = 0; index < bytes; index++) {
      if (page[at + index] !== this.needle[index + 1]) return false;
    }
    return true;
  }

  private search(page: Buffer, from: number): number {
    if (from === 0 && this.startsAt(page, 0)) return 0;
    let at = page.indexOf(this.needle, from);
    while (at >= 0) {
      const after = at + this.needle.length;
      // `vllm:num_requests_waiting` is also the start of `vllm:num_requests_waiting_by_reason`.
      if (after < page.length && endsName(page[after]!)) return at + 1;
      at = page.indexOf(this.needle, after);
    }
    return -1;
  }

  /** A search from a hint may land inside the metric's lines when the page shrank: go back to the first. */
  private firstOfGroup(page: Buffer, at: number): number {
    let first = at;
    let line = at;
    for (let count = 0; line > 1 && count < SERIES_MAX; count++) {
      line = page.lastIndexOf(LINE_FEED, line - 2) + 1;
      if (this.startsAt(page, line)) first = line;
      else if (!this.isFamily(page, line)) break;
    }
    return first;
  }
}

function endsName(byte: number): boolean {
  return byte === BRACE_OPEN || byte === SPACE || byte === TAB;
}

function lineEnd(page: Buffer, from: number): number {
  const end = page.indexOf(LINE_FEED, from);
  return end < 0 ? page.length : end;
}

/**
 * Reads labels and value of the line whose name ends at `from`. False when it is malformed or not a number.
 */
function readLine(page: Buffer, from: number, end: number, line: MetricLine): boolean {
  let at = from;
  while (at < end && isBlank(page[at]!)) at += 1;
  if (page[at] === BRACE_OPEN) {
    const close = labelsClose(page, at + 1, end);
    if (close < 0) return false;
    line.labelsStart = at + 1;
    line.labelsEnd = close;
    at = close + 1;
  } else {
    line.labelsStart = at;
    line.labelsEnd = at;
  }
  while (at < end && isBlank(page[at]!)) at += 1;
  let valueEnd = at;
  while (valueEnd < end && page[valueEnd]! > SPACE) valueEnd += 1;
  if (valueEnd === at) return false;
  const value = Number(page.toString("latin1", at, valueEnd));
  if (!Number.isFinite(value)) return false;
  line.value = value;
  return true;
}

function isBlank(byte: number): boolean {
  return byte === SPACE || byte === TAB;
}

/** Offset of the `}` that ends the labels, or -1; quoted values may hold any byte. */
function labelsClose(page: Buffer, from: number, end: number): number {
  let quoted = false;
  for (let at = from; at < end; at++) {
    const byte = page[at]!;
    if (quoted) {
      if (byte === BACKSLASH) at += 1;
      else if (byte === QUOTE) quoted = false;
    } else if (byte === QUOTE) {
      quoted = true;
    } else if (byte === BRACE_CLOSE) {
      return at;
    }
  }
  return -1;
}

/**
 * The value of one label of a line, unescaped; null when the line does not have it.
 * @param name label name, ASCII
 */
export function labelValue(page: Buffer, line: MetricLine, name: string): string | null {
  let at = line.labelsStart;
  const end = line.labelsEnd;
  while (at < end) {
    while (at < end && (page[at] === COMMA || isBlank(page[at]!))) at += 1;
    const nameStart = at;
    while (at < end && page[at] !== EQUALS) at += 1;
    const matches = equalsAscii(page, nameStart, at, name);
    at += 1;
    while (at < end && page[at] !== QUOTE) at += 1;
    at += 1;
    const valueStart = at;
    let escaped = false;
    while (at < end && page[at] !== QUOTE) {
      if (page[at] === BACKSLASH) {
        escaped = true;
        at += 1;
      }
      at += 1;
    }
    if (matches && at < end) {
      const text = page.toString("utf8", valueStart, at);
      return escaped ? text.replace(/\\(.)/g, (_, byte: string) => (byte === "n" ? "\n" : byte)) : text;
    }
    at += 1;
  }
  return null;
}

function equalsAscii(page: Buffer, from: number, to: number, text: string): boolean {
  let end = to;
  while (end > from && isBlank(page[end - 1]!)) end -= 1;
  if (end - from !== text.length) return false;
  for (let index = 0; index < text.length; index++) {
    if (page[from + index] !== text.charCodeAt(index)) return false;
  }
  return true;
}

/** A 32-bit FNV-1a hash of a line's labels: tells the series of one metric apart without making strings. */
export function labelsHash(page: Buffer, line: MetricLine): number {
  let hash = 0x811c9dc5;
  for (let at = line.labelsStart; at < line.labelsEnd; at++) {
    hash = Math.imul(hash ^ page[at]!, 0x01000193);
  }
  return hash >>> 0;
}
