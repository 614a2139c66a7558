// Who of all endpoints may have entries in the gateway's index, whose number is bounded: the small ones first.
import { KV_ENTRIES_MAX } from "../../assembly/wire/kv-deltas.ts";
import { READMIT_SHARE } from "./limits.ts";

/** An endpoint as the budget sees it. */
export interface BudgetMember {
  /** Entries that it has here. */
  readonly entries: number;
  /** Entries of it that the gateway has, or will have after what was written so far; set by the budget alone. */
  held: number;
  /** There is no room for it; set by the budget alone. */
  isLeftOut: boolean;
  /** Something about it is to be told. */
  changed(): void;
}

/** One for all pools of a sidecar. */
export class EntryBudget {
  /** Entries that the gateway has or will have. */
  used = 0;
  private readonly members = new Set<BudgetMember>();

  /** @param max entries of all pools together */
  constructor(private readonly max = KV_ENTRIES_MAX) {}

  join(member: BudgetMember): void {
    this.members.add(member);
  }

  leave(member: BudgetMember): void {
    this.hold(member, 0);
    this.members.delete(member);
  }

  /** Notes how many entries the gateway has of a member. */
  hold(member: BudgetMember, entries: number): void {
    this.used += entries - member.held;
    member.held = entries;
  }

  /**
   * Asks for room for `entries` of a member, those that it holds among them. If there is none, the largest is left out:
   * another, whose room comes free when its pool's next batch is written, or the member itself.
   * @returns whether there is room now
   */
  makeRoom(member: BudgetMember, entries: number): boolean {
    if (this.used - member.held + entries <= this.max) return true;
    while (this.promised(member) + entries > this.max) {
      const largest = this.largest(member, entries);
      largest.isLeftOut = true;
      largest.changed();
      if (largest === member) break;
    }
    return false;
  }

  /** Takes a member in again that was left out, if there is ample room by now. */
  readmit(member: BudgetMember): void {
    if (member.isLeftOut && this.promised(member) + member.entries <= READMIT_SHARE * this.max) {
      member.isLeftOut = false;
      member.changed();
    }
  }

  /** Entries of all others that are not on their way out. */
  private promised(asking: BudgetMember): number {
    let sum = 0;
    for (const member of this.members) if (member !== asking && !member.isLeftOut) sum += member.held;
    return sum;
  }

  private largest(asking: BudgetMember, entries: number): BudgetMember {
    let found = asking;
    let most = entries;
    for (const member of this.members) {
      if (member === asking || member.isLeftOut || member.held <= most) continue;
      found = member;
      most = member.held;
    }
    return found;
  }
}
