// Endpoints from a file, read again whenever it changes.
import { open, type FileHandle } from "node:fs/promises";
import { EndpointsFileError, FileReadError } from "../errors.ts";
import { ENDPOINTS_FILE_BYTES_MAX } from "../limits.ts";
import type { Discovery, DiscoverySink } from "./endpoint.ts";
import { parseEndpointsFile } from "./endpoints-file.ts";

/** How often the file is looked at. */
const FILE_POLL_INTERVAL_MS = 500;
/** A file that changed is read only after it stood still for this long: it may be half written. */
const FILE_SETTLE_MS = 100;

/**
 * Looks at the file twice a second instead of watching it. A look follows symbolic links and sees device,
 * inode, size and both times, so it notices edits in place, atomic renames and the directory swap behind a
 * Kubernetes ConfigMap alike; a watch is bound to an inode and loses the last two, and does not work on
 * network file systems.
 */
export class FileDiscovery implements Discovery {
  readonly kind = "file";
  private timer: NodeJS.Timeout | null = null;
  private stopped = false;
  private readSignature = "";
  private seenSignature = "";
  private failedSignature: string | null = null;

  /**
   * @param watch false = read once
   * @param timing for tests
   */
  constructor(
    private readonly path: string,
    private readonly watch: boolean,
    private readonly timing = { pollMs: FILE_POLL_INTERVAL_MS, settleMs: FILE_SETTLE_MS },
  ) {}

  start(sink: DiscoverySink): void {
    void this.look(sink, true);
  }

  stop(): void {
    this.stopped = true;
    if (this.timer !== null) clearTimeout(this.timer);
  }

  private async look(sink: DiscoverySink, first: boolean): Promise<void> {
    let delayMs = this.timing.pollMs;
    try {
      const handle = await open(this.path, "r");
      try {
        delayMs = await this.lookAt(handle, sink, first);
      } finally {
        await handle.close();
      }
    } catch (error) {
      this.fail(
        sink,
        error instanceof EndpointsFileError ? error : this.unreadable(error),
        this.seenSignature,
      );
    }
    if (!this.stopped && this.watch) this.timer = setTimeout(() => void this.look(sink, false), delayMs);
  }

  /** @returns when to look again, ms */
  private async lookAt(handle: FileHandle, sink: DiscoverySink, first: boolean): Promise<number> {
    const signature = await this.signatureOf(handle);
    const settled = first || signature === this.seenSignature;
    this.seenSignature = signature;
    if (signature === this.readSignature || signature === this.failedSignature) return this.timing.pollMs;
    if (!settled) return this.timing.settleMs;
    const text = await this.read(handle);
    if ((await this.signatureOf(handle)) !== signature) return this.timing.settleMs;
    const file = parseEndpointsFile(text, this.path);
    if (this.stopped) return this.timing.pollMs;
    this.readSignature = signature;
    this.failedSignature = null;
    sink.apply(file.endpoints, file.drops);
    return this.timing.pollMs;
  }

  private async signatureOf(handle: FileHandle): Promise<string> {
    const stat = await handle.stat({ bigint: true });
    return `${stat.dev} ${stat.ino} ${stat.size} ${stat.mtimeNs} ${stat.ctimeNs}`;
  }

  private async read(handle: FileHandle): Promise<string> {
    const buffer = Buffer.alloc(ENDPOINTS_FILE_BYTES_MAX + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length);
      length += bytesRead;
      if (bytesRead === 0 || length === buffer.length) break;
    }
    return buffer.toString("utf8", 0, length);
  }

  private unreadable(error: unknown): FileReadError {
    this.seenSignature = `unreadable ${(error as NodeJS.ErrnoException).code ?? ""}`;
    return new FileReadError(this.path, "endpoints file", error);
  }

  /** Reports each bad state of the file once. */
  private fail(sink: DiscoverySink, error: Error, signature: string): void {
    if (this.stopped || this.failedSignature === signature) return;
    this.failedSignature = signature;
    this.readSignature = "";
    sink.failed(error);
  }
}
