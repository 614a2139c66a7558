// An engine that restarts while its last messages are still unread: they are another process's by then.
import { expect, it, onTestFinished } from "vitest";
import { kvEventsConfig } from "../../host-sim/model-server/kv-events/config.ts";
import type { PublishedEvent } from "../../host-sim/model-server/kv-events/encode.ts";
import { EventPublisher } from "../../host-sim/model-server/kv-events/publisher.ts";
import { Subscriber } from "../../sidecar/kv-events/subscriber.ts";
import { makeView, SILENT, simulatedTable } from "./kv-events-support.ts";
import { eventually } from "./servers.ts";

function stored(hash: number): PublishedEvent {
  return {
    type: "BlockStored",
    hashes: [hash],
    parent: null,
    tokens: Array.from({ length: 16 }, (_, i) => 400 + i),
    blockSize: 16,
    lora: null,
    cacheSalt: null,
  };
}

it("passes over what the old process sent last, when the new one has told all that it has", async () => {
  const config = kvEventsConfig({});
  const old = new EventPublisher(config, "127.0.0.1", 0);
  await old.start();
  onTestFinished(() => old.stop());
  const { blocks, state } = makeView({ tokens: simulatedTable() });
  let applying: Promise<void> = Promise.resolve();
  let isHeld = false;
  const learn = (): Promise<void> => {
    isHeld = release !== undefined;
    return applying;
  };
  let release: (() => void) | undefined;
  const subscriber = new Subscriber(
    { ...old.source, topic: "", replayTimeoutMs: 500, idleCheckMs: 100 },
    { blocks, state, log: SILENT, learn },
  );
  onTestFinished(() => subscriber.stop());
  void subscriber.run();
  const { counts } = subscriber.history;
  let hash = 0;
  old.publish([stored(++hash)]);
  await eventually("the first batch was applied", () => blocks.size === 1 && state.degraded === null);

  applying = new Promise((settle) => (release = settle));
  for (let i = 0; i < 5; i++) old.publish([stored(++hash)]);
  await eventually("one batch is being applied", () => isHeld);
  await old.stop();
  const young = new EventPublisher(config, "127.0.0.1", 0, old.source);
  await young.start();
  onTestFinished(() => young.stop());
  await eventually("the connection was lost", () => state.degraded !== null);
  release!();

  await eventually("the old process was given up", () => state.degraded === null && blocks.size === 0);
  expect([counts.restarts, counts.historiesLost]).toEqual([1, 0]);
});
