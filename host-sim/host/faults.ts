// Failure injection: traps at the n-th call, refused shared-data writes, lost and late http_call replies.
import { InjectedTrap } from "./errors.ts";
import { Result } from "./abi.ts";

/** What happens to one http_call reply. */
export type ReplyFault = { readonly kind: "drop" } | { readonly kind: "delay"; readonly ms: number };

interface TrapRule {
  readonly callback: string;
  readonly worker: number | null;
  countdown: number;
}

interface SetRule {
  readonly key: string | null;
  left: number;
}

/** Faults of one host. Every order is consumed by the event it names; nothing stays armed by accident. */
export class Faults {
  private traps: TrapRule[] = [];
  private setRules: SetRule[] = [];
  private replies: ReplyFault[] = [];

  /**
   * Traps the VM instead of running `callback` (an export name) at its `nth` call from now, counted from 1.
   * @param worker only on this worker index; any thread when absent.
   */
  trapAt(callback: string, nth = 1, worker: number | null = null): void {
    this.traps.push({ callback, worker, countdown: nth });
  }

  /** Makes the next `times` shared-data writes (of `key`, or any) fail with CasMismatch. */
  failSharedDataSet(key: string | null = null, times = 1): void {
    this.setRules.push({ key, left: times });
  }

  /** Decides the fate of the next http_call's reply; orders queue up. */
  nextReply(fault: ReplyFault): void {
    this.replies.push(fault);
  }

  /** True while any trap is armed; lets the call path skip the check. */
  get trapsArmed(): boolean {
    return this.traps.length > 0;
  }

  /** Called before a callback runs. @throws InjectedTrap when an order matches. */
  beforeCallback(callback: string, worker: number): void {
    for (let index = 0; index < this.traps.length; index++) {
      const rule = this.traps[index] as TrapRule;
      if (rule.callback !== callback || (rule.worker !== null && rule.worker !== worker)) continue;
      if (--rule.countdown > 0) continue;
      this.traps.splice(index, 1);
      throw new InjectedTrap(callback);
    }
  }

  /** Called before a shared-data write; a result replaces the write. */
  beforeSharedDataSet(key: string): Result | undefined {
    for (let index = 0; index < this.setRules.length; index++) {
      const rule = this.setRules[index] as SetRule;
      if (rule.key !== null && rule.key !== key) continue;
      if (--rule.left === 0) this.setRules.splice(index, 1);
      return Result.CAS_MISMATCH;
    }
    return undefined;
  }

  /** Takes the fate of the next http_call reply. */
  takeReplyFault(): ReplyFault | undefined {
    return this.replies.shift();
  }
}
