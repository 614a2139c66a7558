// Python processes with SGLang's own code: started, talked to, and ended however the test ends.
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { sglangPaths } from "../../scripts/sglang/setup.mjs";
import { vllmHome } from "../../scripts/vllm/setup.mjs";

const HERE = fileURLToPath(new URL(".", import.meta.url));

/** The folder of the tests' model, with its tokenizer. */
export const MODEL_FOLDER = sglangPaths(vllmHome()).model;

/** Runs a file of this folder. */
export function startPython(
  file: string,
  args: readonly string[] = [],
): ChildProcessByStdio<Writable, Readable, null> {
  const { python, packages } = sglangPaths(vllmHome());
  return spawn(python, [join(HERE, file), ...args], {
    env: { ...process.env, PYTHONPATH: packages, PYTHONDONTWRITEBYTECODE: "1", HF_HUB_OFFLINE: "1" },
    stdio: ["pipe", "pipe", "inherit"],
  });
}

/** What a cache's sequence of tokens is under. */
export interface Namespace {
  readonly salt?: string;
  readonly lora?: string;
  readonly extra_key?: string;
}

export interface EngineOptions {
  readonly cache: "radix" | "python" | "rust";
  readonly page: number;
  readonly eagle: boolean;
  readonly rank: number;
  /** The value of --kv-events-config. */
  readonly publisher: object;
}

/** engine.py: SGLang's cache and publisher. Commands are answered in order. */
export class Engine {
  private readonly process = startPython("engine.py");
  private readonly waiting: {
    settle: (value: unknown) => void;
    fail: (error: Error) => void;
  }[] = [];

  constructor() {
    createInterface(this.process.stdout).on("line", (line) => this.waiting.shift()?.settle(JSON.parse(line)));
    this.process.once("exit", () => {
      for (const { fail } of this.waiting.splice(0)) fail(new Error("engine.py ended"));
    });
  }

  /** An empty cache in place of the one before, and a publisher whose numbers begin at 0. */
  start(options: EngineOptions): Promise<void> {
    return this.call("start", options);
  }

  insert(tokens: readonly number[], under: Namespace = {}): Promise<void> {
    return this.call("insert", tokens, under);
  }

  /** Tokens that a prompt finds cached. */
  match(tokens: readonly number[], under: Namespace = {}): Promise<number> {
    return this.call("match", tokens, under);
  }

  evict(tokens: number): Promise<void> {
    return this.call("evict", tokens);
  }

  reset(): Promise<void> {
    return this.call("reset");
  }

  /** Tokens held. */
  size(): Promise<number> {
    return this.call("size");
  }

  /** Publishes what happened since the last time, as one batch. */
  publish(): Promise<void> {
    return this.call("publish");
  }

  /** Loses the next messages on their way; a replay has them. */
  drop(messages: number): Promise<void> {
    return this.call("drop", messages);
  }

  stop(): void {
    this.process.kill("SIGKILL");
  }

  private call<T>(...command: readonly unknown[]): Promise<T> {
    this.process.stdin.write(`${JSON.stringify(command)}\n`);
    return new Promise((settle, fail) =>
      this.waiting.push({ settle: settle as (value: unknown) => void, fail }),
    );
  }
}
