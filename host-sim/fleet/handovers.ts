// Computed prompts on their way from one replica to another: blocks held, pulled and released.
import type { EngineRequest } from "../model-server/engine-types.ts";
import type { ComputedPrompt, Flight } from "./flight.ts";
import { KvLeases } from "./kv-leases.ts";
import type { Replica } from "./replica.ts";

/**
 * Hands the blocks of computed prompts over. A decoder is expected from when it has its leg; when its engine has
 * blocks for the prompt, the pull begins. What nobody pulls or releases stays held until it expires.
 */
export class Handovers {
  private readonly leases: KvLeases;

  /** @param engineChanged the engine of a replica may have something to do at another time than before */
  constructor(
    private readonly replicas: readonly Replica[],
    private readonly engineChanged: (replica: number) => void,
  ) {
    this.leases = new KvLeases(replicas.map(({ spec }) => spec));
  }

  /** Next time that decoders extend leases, ms; Infinity: nobody waits for blocks. */
  get nextLeaseMs(): number {
    return this.leases.nextMs;
  }

  /** The decoders whose requests wait for blocks have the prefillers hold them for longer. */
  extendLeases(nowMs: number): void {
    for (const replica of this.leases.extend(nowMs)) this.engineChanged(replica);
  }

  /** A decoder gets the request of a prompt and waits for blocks. */
  expect(prompt: ComputedPrompt, nowMs: number): void {
    this.leases.add(prompt, nowMs);
  }

  /** Its request has ended: nobody extends its lease any more. */
  giveUp(prompt: ComputedPrompt): void {
    this.leases.remove(prompt);
  }

  /** The decoder has blocks for the prompt: they are pulled, unless they are gone. `engineRequest` is that of its leg. */
  begin(flight: Flight, engineRequest: EngineRequest, nowMs: number): void {
    const prompt = flight.prompt!;
    const { engine, replica } = flight.leg!;
    flight.leg!.engineRequest = engineRequest;
    this.leases.remove(prompt);
    const isThere = this.replicas[prompt.replica]!.process === prompt.engine;
    if (!isThere || prompt.engine.holdOf(prompt.holdId) === undefined) engine.failPull(engineRequest, nowMs);
    else {
      prompt.pulledTokens = engineRequest.pulledTokens;
      engine.beginPull(engineRequest, nowMs);
    }
    this.engineChanged(replica);
  }

  /** All is pulled. */
  end({ prompt }: Flight, nowMs: number): void {
    prompt!.pulledMs = nowMs;
    this.release(prompt!, nowMs);
  }

  /** Nobody will pull what is held of a prompt any more. */
  release({ replica, engine, holdId }: ComputedPrompt, nowMs: number): void {
    const at = this.replicas[replica]!;
    if (at.process === engine) at.releaseHold(holdId, nowMs);
    this.engineChanged(replica);
  }

  /** The prefiller died while the prompt was pulled from it. */
  fail(flight: Flight, nowMs: number): void {
    const { engine, engineRequest, replica } = flight.leg!;
    engine.failPull(engineRequest!, nowMs);
    this.engineChanged(replica);
  }
}
