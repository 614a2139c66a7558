// One direction of a stream through one filter: iteration state, buffered bytes and the buffer limit.
import { DataStatus, HeadersStatus, TrailersStatus } from "./abi.ts";
import { ByteQueue } from "./byte-queue.ts";

type Iteration = "continue" | "stop-single" | "stop-all-buffer" | "stop-all-watermark";

/** What the caller does with the frame after a callback. */
export type Outcome = "forward" | "resume" | "hold";

/** Iteration state of one direction (Envoy `ActiveStreamFilterBase`). */
export class Half {
  headersContinued = false;
  /** The codec delivered the end of this direction. */
  complete = false;
  /** The filter has seen the end of this direction. */
  endStream = false;
  /** What exceeding the limit does: true = stop reading, false = fail the stream. */
  streaming = false;
  buffered: ByteQueue | null = null;
  private iteration: Iteration = "continue";
  private aboveLimit = false;

  constructor(
    private readonly limitBytes: number,
    private readonly tooLarge: () => void,
    private readonly pauseReading: (paused: boolean) => void,
  ) {}

  get stopped(): boolean {
    return this.iteration !== "continue";
  }

  get stoppedAll(): boolean {
    return this.iteration === "stop-all-buffer" || this.iteration === "stop-all-watermark";
  }

  /** Takes in the status of a headers callback; true = the headers go on. */
  afterHeaders(status: number): boolean {
    switch (status) {
      case HeadersStatus.STOP_ITERATION:
        this.iteration = "stop-single";
        return false;
      case HeadersStatus.STOP_ALL_ITERATION_AND_BUFFER:
        this.iteration = "stop-all-buffer";
        return false;
      case HeadersStatus.STOP_ALL_ITERATION_AND_WATERMARK:
        this.iteration = "stop-all-watermark";
        return false;
      default:
        this.headersContinued = true;
        return true;
    }
  }

  /** Keeps data without showing it to the filter while everything is stopped. */
  holdIfStoppedAll(data: ByteQueue): boolean {
    if (!this.stoppedAll) return false;
    this.streaming = this.iteration === "stop-all-watermark";
    this.buffer(data);
    return true;
  }

  /** Takes in the status of a body callback. "resume" = held headers and data go on before anything else. */
  afterData(status: number, data: ByteQueue, hasTrailers: boolean): Outcome {
    if (status === DataStatus.CONTINUE) {
      if (this.iteration !== "stop-single") return "forward";
      this.buffer(data);
      return "resume";
    }
    this.iteration = "stop-single";
    if (status === DataStatus.STOP_ITERATION_NO_BUFFER) {
      // The bytes are dropped; an empty end must still reach the next filter when the stream resumes.
      if (this.complete && !hasTrailers && this.buffered === null) this.buffered = new ByteQueue();
      return "hold";
    }
    this.streaming = status === DataStatus.STOP_ITERATION_AND_WATERMARK;
    this.buffer(data);
    return "hold";
  }

  /** Takes in the status of a trailers callback. */
  afterTrailers(status: number): Outcome {
    if (status === TrailersStatus.CONTINUE) return this.iteration === "stop-single" ? "resume" : "forward";
    if (this.iteration === "continue") this.iteration = "stop-single";
    return "hold";
  }

  /** Lets frames pass again; true = the filter itself has not seen the held data yet. */
  resume(): boolean {
    const fromFilter = this.stoppedAll;
    this.iteration = "continue";
    return fromFilter;
  }

  /** Appends to what is held back and applies the limit. */
  buffer(data: ByteQueue): void {
    if (this.buffered === data) return;
    this.buffered ??= new ByteQueue();
    this.buffered.moveFrom(data);
    this.checkLimit();
  }

  /** Takes all bytes of `data` to send them on; lifts the read pause when the held bytes are gone. */
  takeForForward(data: ByteQueue): Uint8Array {
    const bytes = data.take();
    if (data === this.buffered) {
      this.buffered = null;
      if (this.aboveLimit) {
        this.aboveLimit = false;
        if (this.streaming) this.pauseReading(false);
      }
    }
    return bytes;
  }

  private checkLimit(): void {
    const bytes = this.buffered?.length ?? 0;
    if (this.limitBytes === 0 || bytes <= this.limitBytes || this.aboveLimit) return;
    this.aboveLimit = true;
    if (this.streaming) this.pauseReading(true);
    else this.tooLarge();
  }
}
