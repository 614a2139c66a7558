// Blocks of real tokenizers become the bytes of the prompt, whichever way the sidecar comes to know the tokens.
import { describe, expect, it } from "vitest";
import { kvEventsConfig } from "../../host-sim/model-server/kv-events/config.ts";
import type { BlockSink } from "../../sidecar/kv-events/block-sink.ts";
import { REAL_MODELS, realModel, tokenizerPath } from "../sim/support/real-models.ts";
import { send, startReplica } from "../sim/support/replica.ts";
import { eventually } from "./servers.ts";
import { endpointOf, startSidecar } from "./kv-events-sidecar.ts";

const PROMPT =
  "Kto pyta , nie błądzi . — «Кто там ?» 日本語のテスト、絵文字 😀👩‍👩‍👧 and I do n't know 's 12345 !\r\n\n".repeat(
    12,
  );

const WAYS = REAL_MODELS.flatMap((name) =>
  (["map", "array"] as const).flatMap((encoding) => [
    { name, encoding, way: "its file", tokenizer: tokenizerPath(name), cleansUp: false },
    { name, encoding, way: "the server", cleansUp: false },
    { name, encoding, way: "a server that loses spaces", cleansUp: true },
  ]),
);

describe("blocks of a real tokenizer", () => {
  it.each(WAYS)(
    "of $name in the $encoding shape, known from $way",
    async ({ name, encoding, tokenizer, cleansUp }) => {
      const replica = await startReplica({
        textModel: realModel(name, { cleansUp }),
        kvEvents: kvEventsConfig({ encoding }),
      });
      let text = "";
      const sink: BlockSink = {
        stored: (_, { bytes }) => void (text += Buffer.from(bytes).toString("latin1")),
        removed: () => undefined,
        cleared: () => undefined,
        state: () => undefined,
      };
      await startSidecar(
        {
          discovery: { static: { endpoints: [endpointOf(replica)] } },
          kvEvents: {
            idleCheckMs: 100,
            replayTimeoutMs: 2_000,
            ...(tokenizer === undefined ? {} : { tokenizer }),
          },
        },
        { blockSink: sink },
      );
      await send(replica, "/v1/completions", { prompt: PROMPT, max_tokens: 1 });
      const whole = name === "llama3_1" ? `<|begin_of_text|>${PROMPT}` : PROMPT;
      const bytes = Buffer.from(whole.normalize("NFC")).toString("latin1");
      // They are told one by one, with other work of the loop between them.
      await eventually("its blocks were told", () => text.length > bytes.length - 200);
      expect(bytes.startsWith(text), text.slice(0, 200)).toBe(true);
    },
  );
});
