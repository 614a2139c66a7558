// Fields that only the gateway sets, by the ways round a check of the body's own members: carriers, tails, other paths.
import { beforeAll, describe, expect, it } from "vitest";
import { open, PROTOCOLS, send } from "./clients.ts";
import { DECODE, disaggregation, PREFILL } from "./disagg.ts";
import { ENVOY_VERSIONS, type Gateway, startGateway } from "./harness.ts";
import { settled } from "./status.ts";
import { CHAT_PATH, text } from "./support.ts";

type Running = Gateway & { stop(): Promise<void> };
const JSON_TYPE = "application/json";

describe.each(ENVOY_VERSIONS)("fields that only the gateway sets, on Envoy %s", (version) => {
  let gateway: Running;
  beforeAll(async () => {
    gateway = await startGateway(version, {
      replicas: 2,
      snapshot: false,
      pluginConfig: disaggregation({}),
    });
    await gateway.push([DECODE, PREFILL]);
    return () => gateway.stop();
  });

  /** Sends the body in pieces; what came whole to a replica. */
  async function sendPieces(
    protocol: (typeof PROTOCOLS)[number],
    path: string,
    body: Buffer,
    pieceBytes: number,
    type = JSON_TYPE,
  ) {
    for (const replica of gateway.replicas) replica.forget();
    const exchange = open(gateway.url, { protocol, path, method: "POST", headers: { "content-type": type } });
    const sent = (async () => {
      for (let at = 0; at < body.length; at += pieceBytes)
        await exchange.write(body.subarray(at, at + pieceBytes));
      exchange.end();
    })().catch(() => undefined);
    const reply = await exchange.reply;
    await sent;
    const whole = gateway.replicas.flatMap(({ received }) => received.filter(({ complete }) => complete));
    return { reply, whole };
  }

  const messages = (bytes: number): string =>
    `"messages":[{"role":"user","content":${JSON.stringify(text(bytes, bytes))}}]`;

  describe.each(PROTOCOLS)("over %s", (protocol) => {
    it.each<[string, string, string, string]>([
      [
        "in vLLM's own arguments",
        CHAT_PATH,
        `{"model":"m","vllm_xargs":{"kv_transfer_params":"x"},${messages(10)}}`,
        "kv_transfer_params",
      ],
      [
        "there behind the decision",
        CHAT_PATH,
        `{"model":"m",${messages(600_000)},"vllm_xargs":{"a":1,"kv\\u005ftransfer_params":5}}`,
        "kv_transfer_params",
      ],
      [
        "in sampling parameters",
        "/inference/v1/generate",
        '{"model":"m","token_ids":[1,2],"sampling_params":{"extra_args":{"kv_transfer_params":{"do_remote_prefill":true}}}}',
        "kv_transfer_params",
      ],
      [
        "as those of the encoder's cache",
        CHAT_PATH,
        `{"model":"m","ec_transfer_params":{},${messages(10)}}`,
        "ec_transfer_params",
      ],
      [
        "on a path that is not read",
        "/invocations",
        `{"model":"m","kv_transfer_params":{},${messages(10)}}`,
        "kv_transfer_params",
      ],
      [
        "on such a path, late",
        "/invocations",
        `{"model":"m",${messages(600_000)},"kv_transfer_params":{}}`,
        "kv_transfer_params",
      ],
      [
        "behind an escaped path",
        "/v1/chat/completion%73",
        `{"model":"m",${messages(10)},"bootstrap_room":1}`,
        "bootstrap_room",
      ],
    ])("are refused %s", async (_, path, body, field) => {
      for (const pieceBytes of [body.length, 60_000, 7]) {
        if (pieceBytes === 7 && body.length > 10_000) continue;
        const { reply, whole } = await sendPieces(protocol, path, Buffer.from(body), pieceBytes);
        expect([reply.status, whole.length]).toEqual([400, 0]);
        expect(JSON.parse(reply.text).error.message).toBe(`${field}: only the gateway sets this field`);
      }
      await settled(gateway);
    });

    it("are not hidden behind what Python takes for JSON and nobody else", async () => {
      const hidden = '"kv_transfer_params":{}';
      for (const [path, body] of [
        [CHAT_PATH, Buffer.from(`{"model":"m",${messages(600_000)},"temperature":NaN,${hidden}}`)],
        ["/invocations", Buffer.from(`{"model":"m","temperature":Infinity,${hidden},${messages(10)}}`)],
        ["/invocations", Buffer.from(`{"model":"m",${hidden},${messages(10)}}`, "utf16le")],
      ] as const) {
        const { reply, whole } = await sendPieces(protocol, path, body, 60_000);
        expect([path, reply.status, whole.length]).toEqual([path, 400, 0]);
      }
      await settled(gateway);
    });

    it("are other fields' names elsewhere, and no matter in bodies of other types", async () => {
      const tool =
        '"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"kv_transfer_params":{}}}}}]';
      const fine = `{"model":"m","vllm_xargs":{"a":"kv_transfer_params"},${tool},"metadata":{"ec_transfer_params":1},${messages(10)}}`;
      const form = '--x\r\ncontent-disposition: form-data; name="kv_transfer_params"\r\n\r\n{}\r\n--x--\r\n';
      for (const [path, body, type] of [
        [CHAT_PATH, fine, JSON_TYPE],
        ["/invocations", fine, JSON_TYPE],
        ["/v1/audio/transcriptions", form, "multipart/form-data; boundary=x"],
        ["/v1/audio/transcriptions", form.repeat(5_000), "multipart/form-data; boundary=x"],
      ] as const) {
        const { reply, whole } = await sendPieces(protocol, path, Buffer.from(body), 60_000, type);
        expect([path, reply.status]).toEqual([path, 200]);
        expect(whole[0]!.body.toString()).toBe(body);
      }
      const get = await send(gateway.url, { protocol, path: "/v1/models" });
      expect(get.status).toBe(200);
      await settled(gateway);
    });
  });
});
