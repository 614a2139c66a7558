// Two real vLLM servers that refuse and die: what clients get, and that the filter lets go of everything.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open, ReplyCutError } from "../envoy/clients.ts";
import { until } from "../envoy/harness.ts";
import { settings } from "../envoy/support.ts";
import { askServer, type Fields, metricOf, prose, withFleet } from "./fleet.ts";
import { MODEL, startVllms, type Vllm } from "./server.ts";

const SAMPLED = settings({ responseSampleEvery: 1 });
const CHAT = "/v1/chat/completions";

/** One request runs, one waits, the next is refused: vLLM's limit of queued requests counts those that run too. */
const SMALL = ["--max-num-seqs", "1", "--max-num-queued-reqs", "2"];

let servers: Vllm[] = [];
beforeAll(async () => {
  servers = await startVllms([{ args: SMALL }, { args: SMALL }]);
});
afterAll(() => Promise.all(servers.map((server) => server.stop())));

const long = (seed: number, fields: Fields = {}): Fields => ({
  model: MODEL,
  messages: [{ role: "user", content: prose(seed, 20) }],
  max_tokens: 1_500,
  ignore_eos: true,
  ...fields,
});

describe("real servers", () => {
  it("that are full refuse, and that reaches the client; one that dies cuts its streams, and the other serves on", async () => {
    await withFleet(servers, { pluginConfig: SAMPLED }, async ({ ask, counters, gateway, monitor }) => {
      // As the engine refuses by itself.
      const direct = await Promise.all([1, 2, 3, 4].map((seed) => askServer(servers[0]!, CHAT, long(seed))));
      const refusal = direct.find(({ status }) => status === 503);
      expect(refusal, JSON.stringify(direct.map(({ status }) => status))).toBeDefined();
      const shape = (text: string): string[] =>
        Object.keys((JSON.parse(text) as { error: object }).error).sort();

      const replies = await Promise.all(
        Array.from({ length: 10 }, (_, index) => ask(CHAT, long(10 + index))),
      );
      const refused = replies.filter(({ status }) => status === 503);
      expect(replies.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(
        2 * servers.length,
      );
      expect(refused.length).toBeGreaterThan(0);
      expect(replies.filter(({ status }) => status !== 200 && status !== 503)).toEqual([]);
      for (const { text } of refused) expect(shape(text)).toEqual(shape(refusal!.text));
      await counters();

      // Both are idle. A stream that runs is cut when its server dies.
      const stream = open(gateway.url, {
        path: CHAT,
        method: "POST",
        headers: { "content-type": "application/json" },
      });
      stream.end(JSON.stringify(long(50, { stream: true, max_tokens: 3_500 })));
      await until("tokens came", () => stream.received().includes('"content"'));
      const victim = await until("a server said that it runs it", async () => {
        const running = await Promise.all(
          servers.map((server) => metricOf(server, "vllm:num_requests_running")),
        );
        return servers[running.indexOf(1)];
      });
      await victim.kill();
      await expect(stream.reply).rejects.toThrow(ReplyCutError);
      expect(stream.received()).not.toContain("[DONE]");
      await counters();
      for (let turn = 0; turn < 4; turn++) {
        const reply = await ask(CHAT, long(60 + turn, { max_tokens: 4 }));
        expect(reply.status, reply.text).toBe(200);
      }
      await until("the sidecar saw that it is gone", () => !monitor(victim).usable);
    });
  });
});
