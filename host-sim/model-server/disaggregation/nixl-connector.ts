// vLLM's NixlConnector: a prefiller holds blocks under parameters it answers, a decoder that is given them pulls.
import { randomBytes, randomUUID } from "node:crypto";
import type { JsonObject } from "../body.ts";
import type { FinishReason } from "../engine-types.ts";
import { ApiError, badRequest } from "../errors.ts";
import type { Exposition } from "../exposition.ts";
import type { GenerationService } from "../generation.ts";
import type { GenerationJob, Sequence } from "../generation-types.ts";
import { pullDurationMs } from "../kv-pulls.ts";
import type { DisaggregationConfig } from "./config.ts";
import {
  type DisaggregationStatus,
  type KvConnector,
  type KvLeg,
  type LegRequest,
  ORDINARY_LEG,
  promptIdentity,
  Refusals,
} from "./leg.ts";
import { IssuedParamsTable } from "./nixl-issued.ts";
import { NixlMetrics, writeNixlMetrics } from "./nixl-metrics.ts";
import { checkLeg, type DecodeParams, readParams, writeParams } from "./nixl-params.ts";
import { askPeer, type PeerAnswer, PeerUnreachableError, SideChannel } from "./side-channel.ts";

/** Prefillers whose handshake is remembered; beyond it the oldest needs another one. */
const PEERS_MAX = 1024;
/** Heartbeats a lease: a decoder that waits extends it this often (vLLM: `kv_lease_duration // 6`). */
const HEARTBEATS_PER_LEASE = 6;

/** The NIXL side of one replica, by what vLLM 0.32.0 was seen to do. */
export class NixlConnector implements KvConnector {
  readonly engineId = randomUUID();
  private readonly config: DisaggregationConfig;
  private readonly service: GenerationService;
  private readonly side = new SideChannel((path, body) => this.answerPeer(path, body));
  private readonly issued = new IssuedParamsTable();
  private readonly refusals = new Refusals();
  private readonly metrics = new Map<unknown, NixlMetrics>();
  /** Addresses of the prefillers that were met, by engine id. */
  private readonly peers = new Map<string, string>();
  /** Decode legs whose blocks are not pulled yet. */
  private readonly waiting = new Set<DecodeParams>();
  private readonly heartbeatMs: number;
  private heartbeat: NodeJS.Timeout | undefined;
  private staleReads = 0;

  constructor(config: DisaggregationConfig, service: GenerationService) {
    this.config = config;
    this.service = service;
    this.heartbeatMs = service.engineConfig.holdMs / HEARTBEATS_PER_LEASE;
    for (const engine of service.engines) this.metrics.set(engine, new NixlMetrics());
  }

  async start(host: string): Promise<void> {
    await this.side.start(host, this.config.sidePort);
  }

  async stop(): Promise<void> {
    clearInterval(this.heartbeat);
    await this.side.stop();
  }

  async legOf(request: LegRequest): Promise<KvLeg | undefined> {
    try {
      const params = readParams(request);
      if (this.config.strict) checkLeg(request, params, this.config.role);
      if (params === undefined) return undefined;
      if (params.kind === "prefill") return this.prefillLeg(request);
      if (this.config.strict) await this.claim(request, params);
      return this.decodeLeg(request, params);
    } catch (error) {
      if (error instanceof ApiError) this.refusals.note(error);
      throw error;
    }
  }

  status(): DisaggregationStatus {
    const { role, strict } = this.config;
    return {
      connector: "nixl",
      role,
      strict,
      sideChannel: this.side.address,
      engineId: this.engineId,
      heldBlocks: this.service.heldBlocks,
      issued: this.issued.statuses(),
      rooms: [],
      refusals: [...this.refusals.messages],
      staleReads: this.staleReads,
    };
  }

  writeMetrics(page: Exposition, modelName: string): void {
    writeNixlMetrics(page, modelName, this.service.engines, (engine) => this.metrics.get(engine)!);
  }

  private prefillLeg(request: LegRequest): KvLeg {
    return {
      ...ORDINARY_LEG,
      call: request.call,
      holdBlocks: true,
      ended: (sequence, reason, job) => {
        if (reason === "done") this.issue(sequence, request, job);
      },
      expired: (sequence) => {
        this.issued.expire(sequence);
        this.metrics.get(sequence.engine)!.expired++;
      },
    };
  }

  // The parameters of the first sequence are answered; those of others wait for their deadline, as in vLLM.
  private issue(
    sequence: Sequence,
    { id, indexSeparator, call, lora }: LegRequest,
    job: GenerationJob,
  ): void {
    const hold = this.service.holdOf(sequence)!;
    const number = indexSeparator === undefined ? "" : `${indexSeparator}${sequence.index}`;
    const requestId = `${id}${number}-${randomBytes(4).toString("hex")}`;
    const [host, port] = splitAddress(this.side.address);
    const request = sequence.request!;
    const text = writeParams({
      blocks: hold.blocks.map((block) => block + 1),
      engineId: this.engineId,
      requestId,
      host,
      port,
      tokens: hold.tokens,
      cachedTokens: request.generatedTokens === 1 ? request.cachedTokens : undefined,
      check: this.config.strict ? checkNumber() : undefined,
    });
    const prompt = promptIdentity(call.prompts[sequence.promptIndex]!, lora);
    this.issued.add({ requestId, sequence, text, prompt, tokens: hold.tokens, state: "held", usedBy: null });
    if (sequence.index === 0) job.transferParams = text;
  }

  private decodeLeg(request: LegRequest, params: DecodeParams): KvLeg {
    this.startWaiting(params);
    return {
      ...ORDINARY_LEG,
      call: request.call,
      remotePrefill: true,
      refused: () => this.letGo(params),
      allocated: (sequence) => void this.pull(sequence, request, params),
      pulled: (sequence) => void this.finishPull(sequence, params),
      ended: (sequence, reason) => this.decodeEnded(sequence, reason, params),
      cachedTokens: ({ cachedTokens, pulledTokens }) => {
        return params.prefillCachedTokens ?? Math.max(0, cachedTokens) + pulledTokens;
      },
    };
  }

  private decodeEnded(sequence: Sequence, reason: FinishReason, params: DecodeParams): void {
    if (reason === "done") return;
    if (reason === "failed") {
      this.stopWaiting(params);
      this.metrics.get(sequence.engine)!.failedTransfers++;
    } else if (params.missing.length > 0) {
      // Seen in vLLM 0.32.0: the scheduler does not know what to free, and the engine dies.
      this.service.die();
    } else if (sequence.request!.pulledTokens === 0) {
      this.letGo(params);
    }
  }

  // Asks the prefiller for the blocks. Nothing happens, for ever, when vLLM would not know whom to ask.
  private async pull(sequence: Sequence, request: LegRequest, params: DecodeParams): Promise<void> {
    if (params.missing.length > 0) return;
    const needed = Math.ceil(sequence.request!.pulledTokens / this.service.engineConfig.blockSize);
    // Seen in vLLM 0.32.0: fewer blocks than the prompt needs, or in another form, and the engine dies.
    if (params.blockCount < needed) return this.service.die();
    try {
      const address = await this.meet(params);
      const prompt = promptIdentity(request.call.prompts[sequence.promptIndex]!, request.lora);
      const read = { engine_id: params.engineId, request_id: params.requestId, prompt };
      const { status, body } = await askPeer(address, "/read", read);
      if (status !== 200) throw new PeerUnreachableError(address, String(body["error"]));
      if (body["valid"] !== true) {
        this.staleReads++;
        sequence.garbled = true;
      }
      this.service.beginPull(sequence);
    } catch (error) {
      if (!(error instanceof PeerUnreachableError)) throw error;
      this.stopWaiting(params);
      this.service.failPull(sequence);
    }
  }

  private async finishPull(sequence: Sequence, params: DecodeParams): Promise<void> {
    this.stopWaiting(params);
    const { engineConfig } = this.service;
    const metrics = this.metrics.get(sequence.engine)!;
    const blocks = Math.ceil(sequence.request!.pulledTokens / engineConfig.blockSize);
    const bytes = blocks * engineConfig.blockSize * engineConfig.kvBytesPerToken;
    metrics.transferred(pullDurationMs(engineConfig, blocks), blocks, bytes);
    if (!(await this.tellDone(params))) metrics.notificationFailed();
  }

  // The prefiller may release its blocks although nobody read them.
  private letGo(params: DecodeParams): void {
    this.stopWaiting(params);
    void this.tellDone(params);
  }

  private async tellDone(params: DecodeParams): Promise<boolean> {
    const address = this.peers.get(params.engineId) ?? params.address;
    const body = { engine_id: params.engineId, request_id: params.requestId };
    const answer = await askPeer(address, "/done", body).catch(() => undefined);
    return answer?.status === 200;
  }

  // Address of a prefiller. The first time it must answer a handshake; one that is known is asked where it was,
  // whatever port the parameters name.
  private async meet({ engineId, address }: DecodeParams): Promise<string> {
    const known = this.peers.get(engineId);
    if (known !== undefined) return known;
    const { status, body } = await this.handshake(address, engineId);
    if (status !== 200) throw new PeerUnreachableError(address, String(body["error"]));
    this.peers.set(engineId, address);
    if (this.peers.size > PEERS_MAX) this.peers.delete(this.peers.keys().next().value!);
    return address;
  }

  // ZeroMQ goes on connecting to a port that nobody listens on: the decoder notices by its timeout alone.
  private async handshake(address: string, engineId: string): Promise<PeerAnswer> {
    const startMs = performance.now();
    const signal = AbortSignal.timeout(this.config.handshakeTimeoutMs);
    try {
      return await askPeer(address, "/handshake", { engine_id: engineId }, signal);
    } catch (error) {
      const leftMs = this.config.handshakeTimeoutMs - (performance.now() - startMs);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, leftMs)));
      throw error;
    }
  }

  // Strict: the prefiller must know the parameters, for this prompt, and nobody may have used them.
  private async claim({ call, lora, id }: LegRequest, params: DecodeParams): Promise<void> {
    const { engineId, requestId, text } = params;
    const claim = { engineId, requestId, text, prompt: promptIdentity(call.prompts[0]!, lora), usedBy: id };
    // A prefiller that is gone is found out by the pull, as a real decoder does.
    const answer = await askPeer(params.address, "/claim", claim).catch(() => undefined);
    if (answer !== undefined && answer.status !== 200) throw badRequest(String(answer.body["error"]));
  }

  private startWaiting(params: DecodeParams): void {
    this.waiting.add(params);
    this.heartbeat ??= setInterval(() => this.sendHeartbeats(), this.heartbeatMs).unref();
  }

  private stopWaiting(params: DecodeParams): void {
    this.waiting.delete(params);
    if (this.waiting.size > 0) return;
    clearInterval(this.heartbeat);
    this.heartbeat = undefined;
  }

  private sendHeartbeats(): void {
    if (!this.service.alive) return;
    for (const { engineId, requestId, address } of this.waiting) {
      const body = { engine_id: engineId, request_id: requestId };
      askPeer(this.peers.get(engineId) ?? address, "/heartbeat", body).catch(() => undefined);
    }
  }

  // What a decoder asks of this prefiller.
  private answerPeer(path: string, body: JsonObject): PeerAnswer {
    const engineId = body["engine_id"] ?? body["engineId"];
    if (path !== "/claim" && engineId !== this.engineId) {
      return { status: 409, body: { error: `this is engine ${this.engineId}, not ${String(engineId)}` } };
    }
    const requestId = String(body["request_id"]);
    switch (path) {
      case "/handshake":
        return { status: 200, body: { engine_id: this.engineId } };
      case "/claim": {
        const error = this.issued.claim(
          body as unknown as Parameters<IssuedParamsTable["claim"]>[0],
          this.engineId,
        );
        return error === "" ? { status: 200, body: {} } : { status: 409, body: { error } };
      }
      case "/read":
        return { status: 200, body: { valid: this.issued.isValid(requestId, String(body["prompt"])) } };
      case "/heartbeat":
        return { status: 200, body: { extended: this.extend(requestId) } };
      case "/done":
        this.fetched(requestId);
        return { status: 200, body: {} };
      default:
        return { status: 404, body: { error: `no such path: ${path}` } };
    }
  }

  private extend(requestId: string): boolean {
    const issued = this.issued.get(requestId);
    return issued !== undefined && this.service.extendHold(issued.sequence);
  }

  private fetched(requestId: string): void {
    const issued = this.issued.get(requestId);
    if (issued !== undefined && this.service.release(issued.sequence)) {
      issued.state = "fetched";
      return;
    }
    const engine = issued?.sequence.engine ?? this.service.engines[0];
    this.metrics.get(engine)!.notificationsAfterExpiry++;
  }
}

function splitAddress(address: string): [host: string, port: number] {
  const colon = address.lastIndexOf(":");
  return [address.slice(0, colon), Number(address.slice(colon + 1))];
}

/** An odd integer in 2^62…2^63−1: no double holds it. */
function checkNumber(): bigint {
  return BigInt.asUintN(62, randomBytes(8).readBigUInt64BE()) | (1n << 62n) | 1n;
}
