// Which APIs' prompts are computed elsewhere, by mode: those whose engines, or whose pods' sidecars, take the parameters.
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { noDisaggregation } from "../../host-sim/model-server/disaggregation/config.ts";
import { statusOf } from "../sim/support/disaggregation.ts";
import { eventsOf, send as sendTo, startReplica } from "../sim/support/replica.ts";
import { PROTOCOLS, send } from "./clients.ts";
import { DECODE, disaggregation, PREFILL, PREFILLER } from "./disagg.ts";
import { ENVOY_VERSIONS, type Gateway, startGateway, until } from "./harness.ts";
import { encodeSnapshot } from "./snapshot.ts";
import { settled } from "./status.ts";
import { text } from "./support.ts";
import { answer, reset } from "./upstream.ts";

type Running = Gateway & { stop(): Promise<void> };
const PARAMS = '{"do_remote_prefill":true}';
const MODES = {
  headers: {},
  nixl: { mode: "inline" },
  sglang: { mode: "inline", protocol: "sglang" },
} as const;
type Mode = keyof typeof MODES;

const MESSAGES = '"messages":[{"role":"user","content":"hello"}]';
const MESSAGES_PATH = "/v1/messages";
/** Path, body, and the modes in which its prompt is computed elsewhere. */
const REQUESTS: [string, string, Mode[]][] = [
  ["/v1/chat/completions", `{"model":"m",${MESSAGES}}`, ["headers", "nixl", "sglang"]],
  ["/v1/completions", '{"model":"m","prompt":"hello"}', ["headers", "nixl", "sglang"]],
  ["/v1/completions", '{"model":"m","prompt":[1,2,3]}', ["headers", "nixl", "sglang"]],
  [MESSAGES_PATH, `{"model":"m","max_tokens":8,"system":"s",${MESSAGES}}`, ["headers", "nixl"]],
  ["/v1/responses", '{"model":"m","input":"hello"}', ["headers"]],
  ["/inference/v1/generate", '{"model":"m","token_ids":[1,2],"sampling_params":{}}', ["headers"]],
  ["/generate", '{"text":"hello"}', ["sglang"]],
  ["/v1/embeddings", '{"model":"m","input":"hello"}', []],
  ["/v1/messages/count_tokens", `{"model":"m",${MESSAGES}}`, []],
];

describe.each(ENVOY_VERSIONS)("on Envoy %s", (version) => {
  describe.each(Object.keys(MODES) as Mode[])("in mode %s a prompt", (mode) => {
    let gateway: Running;
    beforeAll(async () => {
      gateway = await startGateway(version, {
        replicas: 2,
        snapshot: false,
        pluginConfig: disaggregation({ parameters: MODES[mode] }),
      });
      await gateway.push([DECODE, PREFILL]);
      gateway.replicas[1]!.behave(answer(200, `{"kv_transfer_params":${PARAMS}}`));
      return () => gateway.stop();
    });

    it.each(REQUESTS)("of %s, %s, is computed elsewhere in %j", async (path, body, modes) => {
      const isSplit = modes.includes(mode);
      for (const protocol of PROTOCOLS) {
        for (const replica of gateway.replicas) replica.forget();
        expect((await send(gateway.url, { protocol, path, method: "POST", body })).status).toBe(200);
        await settled(gateway);
        const [decode, prefill] = gateway.replicas.map(({ received }) => received);
        expect(decode!.length).toBe(1);
        expect(prefill!.length).toBe(isSplit && mode !== "headers" ? 1 : 0);
        expect(decode![0]!.headers[PREFILLER] !== undefined).toBe(isSplit && mode === "headers");
        const got = decode![0]!.body.toString();
        if (!isSplit || mode === "headers") expect(got).toBe(body);
        else if (mode === "nixl") expect(got).toBe(`{"kv_transfer_params":${PARAMS},${body.slice(1)}`);
        else
          expect(got).toMatch(
            /^\{"bootstrap_host":"127\.0\.0\.1","bootstrap_port":8998,"bootstrap_room":\d+,/,
          );
      }
    });
  });

  describe("a conversation in Anthropic's API", () => {
    it.each(PROTOCOLS)("gives the answer that one replica would give, over %s", async (protocol) => {
      const start = (role: "prefill" | "decode") =>
        startReplica({
          name: role,
          disaggregation: { ...noDisaggregation(), connector: "nixl", role, strict: true },
        });
      const [prefiller, decoder, whole] = [
        await start("prefill"),
        await start("decode"),
        await startReplica(),
      ];
      const gateway = await startGateway(version, {
        replicas: 0,
        extraEndpoints: [prefiller.address, decoder.address],
        snapshot: false,
        pluginConfig: disaggregation({ parameters: MODES.nixl }),
      });
      onTestFinished(() => gateway.stop());
      const endpoints = [
        { address: prefiller.address, models: [], ...PREFILL },
        { address: decoder.address, models: [], ...DECODE },
      ];
      expect((await gateway.pushBytes(encodeSnapshot(endpoints))).status).toBe(204);
      const chat = (seed: string, stream: boolean): object => ({
        model: "tiny",
        max_tokens: 8,
        system: "Be short.",
        messages: [{ role: "user", content: text(seed, 600) }],
        stream,
      });
      const contentOf = (body: string): unknown => JSON.parse(body).content;
      const one = chat("one", false);
      const reply = await send(gateway.url, { protocol, path: MESSAGES_PATH, method: "POST", body: one });
      expect([reply.status, contentOf(reply.text)]).toEqual([
        200,
        contentOf((await sendTo(whole, MESSAGES_PATH, one)).text),
      ]);
      const two = chat("two", true);
      const streamed = await send(gateway.url, { protocol, path: MESSAGES_PATH, method: "POST", body: two });
      const deltas = (body: string): string[] =>
        eventsOf(body).flatMap((event) => JSON.parse(event).delta?.text ?? []);
      const direct = await sendTo(whole, MESSAGES_PATH, two);
      expect([streamed.status, deltas(streamed.text)]).toEqual([200, deltas(direct.text)]);
      expect(deltas(streamed.text).length).toBe(8);
      await until("all blocks are fetched", () =>
        statusOf(prefiller).issued.every(({ state }) => state === "fetched"),
      );
      expect(statusOf(prefiller).issued.length).toBe(2);
      expect([...statusOf(prefiller).refusals, ...statusOf(decoder).refusals]).toEqual([]);
      await settled(gateway);
    });

    it.each(PROTOCOLS)("without anything to hand over is decoded as it is, over %s", async (protocol) => {
      const gateway = await startGateway(version, {
        replicas: 2,
        snapshot: false,
        pluginConfig: disaggregation({ parameters: MODES.nixl }),
      });
      onTestFinished(() => gateway.stop());
      await gateway.push([DECODE, PREFILL]);
      const [decoder, prefiller] = gateway.replicas;
      // vLLM leaves out there what is null.
      prefiller!.behave(answer(200, '{"id":"chatcmpl-1","type":"message","content":[]}'));
      const [path, body] = [MESSAGES_PATH, `{"model":"m","max_tokens":8,${MESSAGES}}`];
      expect((await send(gateway.url, { protocol, path, method: "POST", body })).status).toBe(200);
      expect(decoder!.received.map((one) => one.body.toString())).toEqual([body]);
      const { counters } = await settled(gateway);
      expect([counters["prefillFailures"], counters["prefillFallbacks"]]).toEqual([0, 0]);
      expect(counters["prefillsWithoutParameters"]).toBe(1);
      // What fails behind the splice is an error in that API's own shape.
      prefiller!.behave(answer(200, `{"kv_transfer_params":${PARAMS}}`));
      decoder!.behave(reset("body"));
      const failed = await send(gateway.url, { protocol, path, method: "POST", body });
      expect(failed.status).toBe(503);
      expect(JSON.parse(failed.text)).toMatchObject({ type: "error", error: { type: "overloaded_error" } });
      await settled(gateway);
    });
  });
});
