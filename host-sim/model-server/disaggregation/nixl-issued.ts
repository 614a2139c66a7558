// What a prefiller promised to decoders, and what became of it.
import type { Sequence } from "../generation-types.ts";
import type { IssuedStatus } from "./leg.ts";

/** Promises remembered, so that a late decode hears why it is refused; beyond it the oldest is "never issued". */
const REMEMBERED_MAX = 4096;

/** One prefill whose blocks a decoder may fetch. */
export interface Issued {
  readonly requestId: string;
  readonly sequence: Sequence;
  /** The parameters' text as answered. */
  readonly text: string;
  /** Identity of the prompt. */
  readonly prompt: string;
  readonly tokens: number;
  state: IssuedStatus["state"];
  usedBy: string | null;
}

/** What a strict decoder wants to know before it fetches. */
export interface Claim {
  readonly engineId: string;
  readonly requestId: string;
  readonly text: string;
  readonly prompt: string;
  readonly usedBy: string;
}

/** The promises of one replica. */
export class IssuedParamsTable {
  private readonly byId = new Map<string, Issued>();

  add(issued: Issued): void {
    this.byId.set(issued.requestId, issued);
    if (this.byId.size > REMEMBERED_MAX) this.byId.delete(this.byId.keys().next().value!);
  }

  get(requestId: string): Issued | undefined {
    return this.byId.get(requestId);
  }

  /** The blocks of a sequence were given up. */
  expire(sequence: Sequence): void {
    for (const issued of this.byId.values()) {
      if (issued.sequence === sequence && issued.state !== "fetched") issued.state = "expired";
    }
  }

  /** Blocks that are there for this prompt. */
  isValid(requestId: string, prompt: string): boolean {
    const issued = this.byId.get(requestId);
    return (issued?.state === "held" || issued?.state === "claimed") && issued.prompt === prompt;
  }

  /** Reserves a promise for one decode. @returns what is wrong with the claim, "" = it is granted */
  claim(claim: Claim, engineId: string): string {
    const request = `kv_transfer_params of request ${claim.requestId}`;
    const issued = this.byId.get(claim.requestId);
    if (claim.engineId !== engineId) return `${request} name engine ${claim.engineId}, this is ${engineId}`;
    if (issued === undefined) return `${request} were never issued by engine ${engineId}`;
    if (issued.state === "expired") return `${request} have expired: their blocks are released`;
    if (issued.state !== "held") return `${request} were already fetched, by ${issued.usedBy}`;
    if (issued.text !== claim.text) return `${request} are ${claim.text}, expected ${issued.text} as issued`;
    if (issued.prompt !== claim.prompt) {
      return `${request} belong to another prompt: ${issued.prompt}, this one is ${claim.prompt}`;
    }
    issued.state = "claimed";
    issued.usedBy = claim.usedBy;
    return "";
  }

  statuses(): IssuedStatus[] {
    return [...this.byId.values()].map(({ requestId, state, tokens, usedBy }) => {
      return { requestId, state, tokens, usedBy };
    });
  }
}
