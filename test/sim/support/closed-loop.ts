// Runs an engine under a closed loop of equal requests, as load tests of real servers do, in simulated time.
import { Engine } from "../../../host-sim/model-server/engine.ts";
import type { EngineConfig, EngineRequest } from "../../../host-sim/model-server/engine-types.ts";

export interface ClosedLoop {
  readonly concurrency: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly requests: number;
}

export interface ClosedLoopResult {
  readonly timeToFirstTokenMs: number;
  readonly interTokenMs: number;
  readonly outputTokensPerSecond: number;
}

/** Means over the requests that started after the first generation of them has ended, so without the ramp. */
export function runClosedLoop(config: EngineConfig, loop: ClosedLoop): ClosedLoopResult {
  const finished: { request: EngineRequest; atMs: number }[] = [];
  let submitted = 0;
  const blocks = Math.ceil((loop.promptTokens + loop.outputTokens) / config.blockSize);
  const submit = (nowMs: number): void => {
    const number = submitted++;
    const blockHashes = Float64Array.from({ length: blocks }, (_, i) => 1 + number * blocks + i);
    engine.submit({ id: String(number), ...loop, blockHashes }, nowMs);
  };
  const engine = new Engine(config, {
    finished(request, _reason, nowMs) {
      finished.push({ request, atMs: nowMs });
      if (submitted < loop.requests) submit(nowMs);
    },
  });
  for (let i = 0; i < loop.concurrency; i++) submit(0);
  while (engine.nextEventMs() < Number.POSITIVE_INFINITY) engine.advance(engine.nextEventMs());
  const last = finished.length - loop.concurrency;
  const steady = finished.slice(Math.min(loop.concurrency, last - 1), last);
  const mean = (of: (request: EngineRequest) => number): number => {
    return steady.reduce((sum, { request }) => sum + of(request), 0) / steady.length;
  };
  const seconds = (steady.at(-1)!.atMs - finished[Math.min(loop.concurrency, last - 1) - 1]!.atMs) / 1000;
  return {
    timeToFirstTokenMs: mean((request) => request.firstTokenMs - request.arrivalMs),
    interTokenMs: mean((request) => (request.lastTokenMs - request.firstTokenMs) / (loop.outputTokens - 1)),
    outputTokensPerSecond: (steady.length * loop.outputTokens) / seconds,
  };
}
