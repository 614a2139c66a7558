// SGLang's disaggregation: both legs come at once with a room's number, and meet at the prefiller's bootstrap
// server. Answers keep vLLM's form; the fields, the waiting and the ports are SGLang's.
import { type JsonObject, optionalText } from "../body.ts";
import { ApiError, badRequest, KvLoadError } from "../errors.ts";
import type { Exposition } from "../exposition.ts";
import type { GenerationService } from "../generation.ts";
import type { GenerationSink, Sequence } from "../generation-types.ts";
import { type DisaggregationConfig, SGLANG_BOOTSTRAP_PORT } from "./config.ts";
import {
  type DisaggregationStatus,
  type KvConnector,
  type KvLeg,
  type LegRequest,
  ORDINARY_LEG,
  promptIdentity,
  Refusals,
} from "./leg.ts";
import { memberText } from "./raw-json.ts";
import { type Room, RoomError, Rooms } from "./sglang-rooms.ts";
import { askPeer, type PeerAnswer, SideChannel } from "./side-channel.ts";

/** Rooms are 63-bit integers. */
const ROOM_MAX = 2n ** 63n - 1n;

/** Where the legs of a call meet. */
interface Bootstrap {
  readonly address: string;
  /** Decimal text. */
  readonly room: string;
}

/** The SGLang side of one replica. */
export class SglangConnector implements KvConnector {
  private readonly config: DisaggregationConfig;
  private readonly service: GenerationService;
  private readonly rooms: Rooms;
  private readonly side = new SideChannel((path, body, signal) => this.answerPeer(path, body, signal));
  private readonly refusals = new Refusals();
  private staleReads = 0;

  constructor(config: DisaggregationConfig, service: GenerationService) {
    this.config = config;
    this.service = service;
    this.rooms = new Rooms(config.roomTimeoutMs, config.strict);
  }

  async start(host: string): Promise<void> {
    if (this.config.role === "prefill") await this.side.start(host, this.config.sidePort);
  }

  async stop(): Promise<void> {
    await this.side.stop();
  }

  async legOf(request: LegRequest): Promise<KvLeg> {
    try {
      const bootstrap = readBootstrap(request);
      if (this.config.role === "decode") return this.decodeLeg(request, bootstrap);
      if (this.config.strict && bootstrap.address !== this.side.address) {
        throw badRequest(
          `bootstrap_host:bootstrap_port is ${bootstrap.address}, expected ${this.side.address}`,
        );
      }
      return await this.prefillLeg(request, bootstrap);
    } catch (error) {
      if (error instanceof ApiError) this.refusals.note(error);
      throw error;
    }
  }

  status(): DisaggregationStatus {
    const { role, strict } = this.config;
    return {
      connector: "sglang",
      role,
      strict,
      sideChannel: this.side.address,
      engineId: "",
      heldBlocks: this.service.heldBlocks,
      issued: [],
      rooms: this.rooms.statuses(),
      refusals: [...this.refusals.messages],
      staleReads: this.staleReads,
    };
  }

  writeMetrics(_page: Exposition): void {
    // SGLang's own metrics have other names; a vLLM page has none of them.
  }

  // Waits for the decode leg, computes the prompt and one token, and answers when the decoder has the blocks.
  private async prefillLeg(request: LegRequest, { room: name }: Bootstrap): Promise<KvLeg> {
    const prompt = promptIdentity(request.call.prompts[0]!, request.lora);
    const room = await this.rooms.enterPrefill(name, prompt, request.signal).catch((error: unknown) => {
      throw roomFailure(error);
    });
    let held: Sequence | undefined;
    let answer: GenerationSink | undefined;
    let finish = (): void => undefined;
    room.onEnd = (error) => {
      if (held !== undefined) this.service.release(held);
      if (error === undefined) finish();
      else answer?.failed(new KvLoadError(error.message));
    };
    return {
      ...ORDINARY_LEG,
      call: { ...request.call, maxTokens: 1, ignoreEos: true, stop: [] },
      holdBlocks: true,
      wrap: (sink) => {
        answer = { ...forward(sink), done: (job) => void (finish = () => sink.done(job)) };
        return answer;
      },
      refused: () => this.rooms.close(room, new RoomError(`room ${name}: the prefill was refused`)),
      ended: (sequence, reason) => {
        if (reason !== "done") {
          return this.rooms.close(room, new RoomError(`room ${name}: the prefill was ${reason}`));
        }
        held = sequence;
        this.rooms.ready(room);
      },
      expired: () => this.rooms.close(room, new RoomError(`room ${name}: nobody came for the blocks`)),
    };
  }

  private decodeLeg(request: LegRequest, bootstrap: Bootstrap): KvLeg {
    return {
      ...ORDINARY_LEG,
      call: request.call,
      remotePrefill: true,
      refused: () => this.leave(bootstrap),
      allocated: (sequence) => void this.join(sequence, request, bootstrap),
      pulled: () => this.leave(bootstrap),
      ended: (sequence, reason) => {
        if (reason === "aborted" && sequence.request!.pulledTokens === 0) this.leave(bootstrap);
      },
    };
  }

  private async join(sequence: Sequence, request: LegRequest, { address, room }: Bootstrap): Promise<void> {
    const visit = { room, prompt: promptIdentity(request.call.prompts[0]!, request.lora) };
    try {
      const { status, body } = await askPeer(address, "/join", visit, request.signal);
      if (status !== 200) throw new RoomError(String(body["error"]));
      if (body["valid"] !== true) {
        this.staleReads++;
        sequence.garbled = true;
      }
      this.service.beginPull(sequence);
    } catch (error) {
      const message = `Decode transfer failed: ${error instanceof Error ? error.message : String(error)}`;
      const failure = new KvLoadError(message);
      this.refusals.note(failure);
      this.service.failPull(sequence, failure);
    }
  }

  private leave({ address, room }: Bootstrap): void {
    askPeer(address, "/leave", { room }).catch(() => undefined);
  }

  // What a decoder asks of this prefiller.
  private async answerPeer(path: string, body: JsonObject, signal: AbortSignal): Promise<PeerAnswer> {
    const name = String(body["room"]);
    if (path === "/join") return this.answerJoin(name, String(body["prompt"]), signal);
    if (path !== "/leave") return { status: 404, body: { error: `no such path: ${path}` } };
    const room = this.rooms.get(name);
    if (room !== undefined) this.rooms.close(room);
    return { status: 200, body: {} };
  }

  private async answerJoin(name: string, prompt: string, signal: AbortSignal): Promise<PeerAnswer> {
    let room: Room;
    try {
      room = await this.rooms.enterDecode(name, { prompt, signal });
    } catch (error) {
      return { status: 409, body: { error: error instanceof Error ? error.message : String(error) } };
    }
    const valid = room.prefillPrompt === prompt;
    if (valid || !this.config.strict) return { status: 200, body: { valid } };
    const error = new RoomError(
      `room ${name}: the prompts are ${room.prefillPrompt} and ${prompt}, expected one`,
    );
    this.rooms.close(room, error);
    return { status: 409, body: { error: error.message } };
  }
}

// Reads the three fields. @throws ApiError 400 naming the field, its value and what was expected
function readBootstrap({ body, text, call }: LegRequest): Bootstrap {
  const room = memberText(text, "bootstrap_room");
  if (room === undefined || room === "null") {
    throw badRequest("Disaggregated request received without bootstrap room id (bootstrap_room)");
  }
  if (!/^\d{1,19}$/.test(room) || BigInt(room) > ROOM_MAX) {
    throw badRequest(`bootstrap_room is ${room.slice(0, 100)}, expected an integer from 0 to 2^63 − 1`);
  }
  const host = optionalText(body, "bootstrap_host");
  if (host === undefined || host === "")
    throw badRequest("bootstrap_host is absent, expected the prefiller's host");
  const port = body["bootstrap_port"] ?? SGLANG_BOOTSTRAP_PORT;
  if (!Number.isInteger(port) || (port as number) < 1 || (port as number) > 65_535) {
    throw badRequest(`bootstrap_port is ${JSON.stringify(port)}, expected 1 to 65535`);
  }
  if (call.prompts.length * call.choices !== 1) {
    throw badRequest(
      `bootstrap_room serves one sequence, the call has ${call.prompts.length * call.choices}`,
    );
  }
  return { address: `${host}:${String(port)}`, room };
}

function roomFailure(error: unknown): unknown {
  if (!(error instanceof RoomError)) return error;
  return error.taken
    ? badRequest(error.message)
    : new KvLoadError(`Prefill bootstrap failed: ${error.message}`);
}

function forward(sink: GenerationSink): GenerationSink {
  return {
    token: (sequence, text, last) => sink.token(sequence, text, last),
    done: (job) => sink.done(job),
    failed: (error) => sink.failed(error),
  };
}
