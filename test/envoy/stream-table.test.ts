// As many requests on one real worker as it has places for streams: what sidecars push is taken all the same.
import { connect, type ClientHttp2Session } from "node:http2";
import { describe, expect, it } from "vitest";
import { STREAMS_MAX } from "../../assembly/wire/limits.ts";
import { chat, ENVOY_VERSIONS, until, withEnvoy } from "./harness.ts";
import { send } from "./clients.ts";

const STREAMS_A_CONNECTION = 512;

interface Counted {
  readonly counters: { readonly streams: number; readonly streamTableOverflows: number };
  readonly pools: readonly { readonly endpoints: readonly { readonly waiting: number }[] }[];
}

describe.each(ENVOY_VERSIONS)("a full table of streams on Envoy %s", (version) => {
  it("does not keep snapshots out, nor requests", async () => {
    await withEnvoy(version, { replicas: 2, concurrency: 1 }, async (gateway) => {
      // The watchdog waits for bodies from the first one on.
      expect((await send(gateway.url, { path: "/v1/chat/completions", body: chat("first") })).status).toBe(
        200,
      );
      const sessions: ClientHttp2Session[] = [];
      try {
        for (let i = 0; i < STREAMS_MAX + 1; i++) {
          if (i % STREAMS_A_CONNECTION === 0) sessions.push(connect(gateway.url));
          const headers = { ":method": "POST", ":path": "/v1/chat/completions" };
          const stream = sessions.at(-1)!.request(headers, { endStream: false });
          // The last one is sent on by load, and breaks off with its connection.
          stream.on("error", () => {});
        }
        await until("the worker holds as many as it can, and more came", async () => {
          const { counters } = await gateway.status<Counted>();
          return counters.streams === STREAMS_MAX && counters.streamTableOverflows === 1;
        });

        for (const waiting of [3, 5]) {
          expect((await gateway.push({ waiting })).status).toBe(204);
          const { pools } = await gateway.status<Counted>();
          expect(pools[0]!.endpoints.map((endpoint) => endpoint.waiting)).toEqual([waiting, waiting]);
        }
        const beyond = await send(gateway.url, { path: "/v1/chat/completions", body: chat("beyond") });
        expect([beyond.status, gateway.servedBy(beyond.headers)]).toEqual([
          200,
          expect.stringMatching(/^replica-/),
        ]);
      } finally {
        for (const session of sessions) session.destroy();
      }
      await until("all places are free again", async () => {
        return (await gateway.status<Counted>()).counters.streams === 0;
      });
    });
  });
});
