// Where the two legs of an SGLang call meet: a room of the prefiller's bootstrap server.
import type { RoomStatus } from "./leg.ts";

/** Rooms remembered after their end, so that a strict prefiller can refuse them; beyond it the oldest is new. */
const REMEMBERED_MAX = 4096;

/** The legs cannot meet; the message says why. */
export class RoomError extends Error {
  readonly code = "room_error";
  /** Another call has the room, or had it. */
  readonly taken: boolean;

  constructor(message: string, taken = false) {
    super(message);
    this.taken = taken;
  }
}

/** What the decode leg brings: the identity of its prompt, and its answer's id. */
export interface DecodeVisit {
  readonly prompt: string;
  readonly signal: AbortSignal;
}

interface Waiter {
  resolve(): void;
  reject(error: RoomError): void;
}

/** One room. */
export interface Room {
  readonly room: string;
  state: RoomStatus["state"];
  /** Identity of the prompt of the leg that came; "" before. */
  prefillPrompt: string;
  decodePrompt: string;
  /** Called when the decoder has the blocks, or nobody will have them. */
  onEnd: (error: RoomError | undefined) => void;
  prefillWaits: Waiter | undefined;
  decodeWaits: Waiter | undefined;
}

/** The rooms of one prefiller. */
export class Rooms {
  private readonly open = new Map<string, Room>();
  private readonly used = new Set<string>();
  private readonly timeoutMs: number;
  private readonly once: boolean;

  /** @param timeoutMs how long a leg waits for the other. @param once a room can be used once only. */
  constructor(timeoutMs: number, once: boolean) {
    this.timeoutMs = timeoutMs;
    this.once = once;
  }

  statuses(): RoomStatus[] {
    return [...this.open.values()].map(({ room, state }) => ({ room, state }));
  }

  get(name: string): Room | undefined {
    return this.open.get(name);
  }

  /**
   * The prefill leg comes and waits for the decode leg.
   * @throws RoomError when the room is taken, no decode leg comes in time, or `signal` is aborted
   */
  async enterPrefill(name: string, prompt: string, signal: AbortSignal): Promise<Room> {
    const room = this.enter(name, "prefillPrompt", prompt);
    if (room.decodeWaits === undefined) {
      room.state = "prefill-waits";
      await this.wait(room, "prefillWaits", "no decode leg came", signal);
    }
    room.state = "prefilling";
    return room;
  }

  /**
   * The decode leg comes and waits until the prefill is done.
   * @throws RoomError when the room is taken, no prefill leg comes in time, the prefill fails, or `signal` is
   * aborted
   */
  async enterDecode(name: string, { prompt, signal }: DecodeVisit): Promise<Room> {
    const room = this.enter(name, "decodePrompt", prompt);
    const waiting = room.prefillWaits;
    if (waiting === undefined) room.state = "decode-waits";
    const ready = this.wait(room, "decodeWaits", "no prefill was done", signal);
    waiting?.resolve();
    await ready;
    room.state = "transferring";
    return room;
  }

  /** The prefill is done: the decode leg may transfer. */
  ready(room: Room): void {
    room.decodeWaits?.resolve();
  }

  /** Both legs are through with the room, or one of them failed. */
  close(room: Room, error?: RoomError): void {
    if (this.open.get(room.room) !== room) return;
    this.open.delete(room.room);
    this.used.add(room.room);
    if (this.used.size > REMEMBERED_MAX) this.used.delete(this.used.values().next().value!);
    const left = error ?? new RoomError(`room ${room.room} is closed`);
    room.prefillWaits?.reject(left);
    room.decodeWaits?.reject(left);
    room.onEnd(error);
  }

  private enter(name: string, side: "prefillPrompt" | "decodePrompt", prompt: string): Room {
    const leg = side === "prefillPrompt" ? "prefill" : "decode";
    if (this.once && this.used.has(name)) throw new RoomError(`room ${name} was used before`, true);
    const room = this.open.get(name) ?? newRoom(name);
    if (room[side] !== "") throw new RoomError(`room ${name} already has a ${leg} leg`, true);
    room[side] = prompt;
    this.open.set(name, room);
    return room;
  }

  private wait(
    room: Room,
    place: "prefillWaits" | "decodeWaits",
    why: string,
    signal: AbortSignal,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (message: string): void => {
        const error = new RoomError(`room ${room.room}: ${message}`);
        settle(() => reject(error));
        this.close(room, error);
      };
      const gone = (): void => fail("the client went away");
      const timer = setTimeout(() => fail(`${why} within ${this.timeoutMs} ms`), this.timeoutMs);
      const settle = (end: () => void): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", gone);
        room[place] = undefined;
        end();
      };
      signal.addEventListener("abort", gone);
      room[place] = { resolve: () => settle(resolve), reject: (error) => settle(() => reject(error)) };
      if (signal.aborted) gone();
    });
  }
}

function newRoom(room: string): Room {
  return {
    room,
    state: "prefill-waits",
    prefillPrompt: "",
    decodePrompt: "",
    onEnd: () => undefined,
    prefillWaits: undefined,
    decodeWaits: undefined,
  };
}
