// Splits a server-sent event stream into its data, whatever the chunks it arrives in.

/** Characters of one event; a longer one is an error of the server. */
export const EVENT_CHARS_MAX = 1_048_576;

/** The stream has an event longer than EVENT_CHARS_MAX. */
export class EventTooLongError extends Error {
  readonly code = "event_too_long";
  constructor() {
    super(`an event has more than ${EVENT_CHARS_MAX} characters`);
  }
}

/**
 * Incremental parser for the parts of the event-stream format that LLM servers use: `data`, comments, blank
 * lines.
 */
export class EventParser {
  private readonly onData: (data: string) => void;
  private readonly decoder = new TextDecoder();
  private pending = "";
  private data: string[] = [];
  private dataChars = 0;

  /** @param onData called with the data of each complete event, its lines joined by newlines. */
  constructor(onData: (data: string) => void) {
    this.onData = onData;
  }

  /** Takes the next bytes. @throws EventTooLongError */
  push(chunk: Uint8Array): void {
    this.pending += this.decoder.decode(chunk, { stream: true });
    let start = 0;
    for (;;) {
      const end = this.pending.indexOf("\n", start);
      if (end < 0) break;
      const line = this.pending.slice(start, this.pending[end - 1] === "\r" ? end - 1 : end);
      start = end + 1;
      this.takeLine(line);
    }
    this.pending = this.pending.slice(start);
    if (this.pending.length + this.dataChars > EVENT_CHARS_MAX) throw new EventTooLongError();
  }

  private takeLine(line: string): void {
    if (line === "") {
      if (this.data.length > 0) this.onData(this.data.join("\n"));
      this.data = [];
      this.dataChars = 0;
    } else if (line.startsWith("data:")) {
      this.data.push(line.slice(line[5] === " " ? 6 : 5));
      this.dataChars += line.length;
    }
  }
}
