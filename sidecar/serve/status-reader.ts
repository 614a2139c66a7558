// Fetches the gateway's status now and then, for the metrics.
import { codeOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { ControlListener } from "../push/control-client.ts";
import { type GatewayStatus, readGatewayStatus } from "./gateway-status.ts";

/** Keeps the last status; a status that cannot be had is forgotten, not shown as if it were present. */
export class StatusReader {
  status: GatewayStatus | null = null;
  failures = 0;
  private timer: NodeJS.Timeout | null = null;
  private stopped = false;
  private reported = "";

  constructor(
    private readonly control: ControlListener,
    private readonly intervalMs: number,
    private readonly log: Logger,
  ) {}

  start(): void {
    void this.read();
  }

  stop(): void {
    this.stopped = true;
    if (this.timer !== null) clearTimeout(this.timer);
  }

  private async read(): Promise<void> {
    try {
      this.status = readGatewayStatus(await this.control.status());
      this.reported = "";
    } catch (error) {
      this.status = null;
      this.failures += 1;
      const code = codeOf(error);
      if (code !== this.reported && !this.stopped)
        this.log.debug({ code }, `no gateway status: ${String(error)}`);
      this.reported = code;
    }
    if (!this.stopped) this.timer = setTimeout(() => void this.read(), this.intervalMs);
  }
}
