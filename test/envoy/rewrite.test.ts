// Requests whose model a pool's policy exchanges: the body's bytes, where they go, and which name the client reads.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { open, type Protocol, PROTOCOLS, send } from "./clients.ts";
import { ENVOY_VERSIONS, type Gateway, startGateway, until } from "./harness.ts";
import { pushPolicy } from "./policy.ts";
import { settled } from "./status.ts";
import { CHAT_PATH, inference, settings, text } from "./support.ts";
import { answer, type Received } from "./upstream.ts";

const REWRITE_BYTES_MAX = 983_040;

describe.each(ENVOY_VERSIONS)("a rewritten request on Envoy %s", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  beforeAll(async () => {
    gateway = await startGateway(version, { replicas: 2, snapshot: { models: [] } });
    expect(
      (await pushPolicy(gateway, { alias: "org/target-70b", self: "self", "*": "fallback" })).status,
    ).toBe(204);
  });
  afterAll(() => gateway?.stop());
  beforeEach(() => {
    for (const replica of gateway.replicas) replica.forget();
  });

  const received = (): Received => gateway.replicas.flatMap((replica) => replica.received)[0]!;
  const counted = async (name: string): Promise<number> => (await settled(gateway)).counters[name]!;

  /** Sends a body in pieces and returns what the replica read. */
  async function through(
    body: string | Buffer,
    options: { protocol?: Protocol; pieceBytes?: number; length?: boolean; path?: string } = {},
  ): Promise<Received> {
    const bytes = Buffer.from(body);
    const { protocol = "http1", pieceBytes = bytes.length, length = true, path = CHAT_PATH } = options;
    const headers: Record<string, string> = {
      "content-type": "application/json",
      ...(length ? { "content-length": String(bytes.length) } : {}),
    };
    const exchange = open(gateway.url, { protocol, path, headers });
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      await exchange.write(bytes.subarray(at, at + pieceBytes));
    }
    exchange.end();
    expect((await exchange.reply).status).toBe(200);
    return received();
  }

  const messages = (content = "hi"): string =>
    `"messages":[{"role":"user","content":${JSON.stringify(content)}}]`;

  describe.each(PROTOCOLS)("over %s", (protocol) => {
    it.each<[string, string, string]>([
      ["first", `{"model":"alias",${messages()},"n":1}`, `{"model":"org/target-70b",${messages()},"n":1}`],
      ["last", `{${messages()},"model":"alias"}`, `{${messages()},"model":"org/target-70b"}`],
      [
        "with spaces and line breaks",
        `\n{ "model" :\t"alias" ,\n ${messages()} }\n`,
        `\n{ "model" :\t"org/target-70b" ,\n ${messages()} }\n`,
      ],
      [
        "twice, of which the engine reads the last",
        `{"model":"other",${messages()},"model":"alias"}`,
        `{"model":"other",${messages()},"model":"org/target-70b"}`,
      ],
      [
        "written with escapes",
        `{"mod\\u0065l":"\\u0061li\\u0061s",${messages()}}`,
        `{"mod\\u0065l":"org/target-70b",${messages()}}`,
      ],
      [
        "deeper too, where it stays",
        `{"metadata":{"model":"alias"},"tools":[{"model":"alias"}],"model":"alias",${messages('"model":"alias"')}}`,
        `{"metadata":{"model":"alias"},"tools":[{"model":"alias"}],"model":"org/target-70b",${messages('"model":"alias"')}}`,
      ],
      ["absent", `{${messages()}}`, `{"model":"fallback",${messages()}}`],
      ["null", `{"model":null,${messages()}}`, `{"model":"fallback",${messages()}}`],
      ["of no rule", `{"model":"stranger",${messages()}}`, `{"model":"fallback",${messages()}}`],
      ["sent to itself", `{"model":"self",${messages()}}`, `{"model":"self",${messages()}}`],
    ])("has its model %s exchanged and every other byte kept", async (_, body, expected) => {
      for (const [pieceBytes, length] of [
        [body.length, true],
        [body.length, false],
        [7, false],
        [1, true],
      ] as const) {
        for (const replica of gateway.replicas) replica.forget();
        const { body: read, headers } = await through(body, { protocol, pieceBytes, length });
        expect(read.toString()).toBe(expected);
        if (length) expect(headers["content-length"]).toBe(String(Buffer.byteLength(expected)));
      }
    });

    it.each(["first", "last"] as const)("has the model of a 200 KB body exchanged, %s", async (place) => {
      const filler = text(`${protocol} ${place} "é☕`, 200_000);
      const make = (model: string): string =>
        place === "first"
          ? `{"model":"${model}",${messages(filler)}}`
          : `{${messages(filler)},"model":"${model}"}`;
      for (const [pieceBytes, length] of [
        [16_000, true],
        [1e6, false],
      ] as const) {
        for (const replica of gateway.replicas) replica.forget();
        const { body, headers } = await through(make("alias"), { protocol, pieceBytes, length });
        expect(body.equals(Buffer.from(make("org/target-70b")))).toBe(true);
        if (length) expect(headers["content-length"]).toBe(String(body.length));
      }
    });

    it("is exchanged where trailers end the body", async () => {
      const headers = protocol === "http1" ? { trailer: "x-end", "transfer-encoding": "chunked" } : {};
      const exchange = open(gateway.url, { protocol, path: CHAT_PATH, headers, trailers: true });
      exchange.end(`{${messages()},"model":"alias"}`, { "x-end": "1" });
      expect((await exchange.reply).status).toBe(200);
      expect(received().body.toString()).toBe(`{${messages()},"model":"org/target-70b"}`);
    });
  });

  it("goes on as it is, and is counted, when the model comes behind what is held", async () => {
    const [before, rewritten] = [await counted("rewritesMissed"), await counted("modelsRewritten")];
    const late = Buffer.from(`{${messages("x".repeat(REWRITE_BYTES_MAX + 70_000))},"model":"alias"}`);
    expect((await through(late, { pieceBytes: 60_000 })).body.equals(late)).toBe(true);
    expect([await counted("rewritesMissed"), await counted("modelsRewritten")]).toEqual([
      before + 1,
      rewritten,
    ]);
    await until(
      "Envoy shows it",
      async () => (await gateway.metric("epp_rewrites_missed_total")) === before + 1,
    );
  });

  it("is exchanged in a body longer than what is held when the model comes early", async () => {
    const rest = `${messages("x".repeat(3_000_000))}}`;
    const { body, headers } = await through(`{"model":"alias",${rest}`, { pieceBytes: 60_000 });
    expect(body.equals(Buffer.from(`{"model":"org/target-70b",${rest}`))).toBe(true);
    expect(headers["content-length"]).toBe(String(body.length));
  });

  it.each([
    ["/v1/completions", '{"model":"alias","prompt":"p"}', '{"model":"org/target-70b","prompt":"p"}'],
    ["/v1/embeddings", '{"input":"p","model":"alias"}', '{"input":"p","model":"org/target-70b"}'],
    [
      "/v1/messages",
      '{"model":"alias","max_tokens":1,"messages":[{"role":"user","content":"x"}]}',
      '{"model":"org/target-70b","max_tokens":1,"messages":[{"role":"user","content":"x"}]}',
    ],
    ["/v1/responses", '{"model":"alias","input":"x"}', '{"model":"org/target-70b","input":"x"}'],
    ["/tokenize", '{"model":"alias","prompt":"p"}', '{"model":"org/target-70b","prompt":"p"}'],
    ["/tokenize", '{"prompt":"p"}', '{"prompt":"p"}'],
    ["/generate", '{"text":"p"}', '{"text":"p"}'],
    ["/v1/files", '{"model":"alias"}', '{"model":"alias"}'],
  ])("POST %s %s becomes %s", async (path, body, expected) => {
    expect((await through(body, { path })).body.toString()).toBe(expected);
  });

  it("lets requests without a body, and bodies that no API reads, alone", async () => {
    const before = await counted("rewritesMissed");
    expect((await send(gateway.url, { path: "/v1/models" })).status).toBe(200);
    for (const replica of gateway.replicas) replica.forget();
    expect((await through("not json", { path: "/tokenize" })).body.toString()).toBe("not json");
    expect(await counted("rewritesMissed")).toBe(before);
  });
});

describe.each(ENVOY_VERSIONS)("the name that is asked for on Envoy %s", (version) => {
  it("chooses the endpoint, its adapter, and the prefix", async () => {
    const gateway = await startGateway(version, {
      replicas: 2,
      snapshot: false,
      pluginConfig: settings({}, [{ type: "prefix-cache-scorer" }]),
    });
    try {
      await gateway.push([{ models: ["base", "lora-a"] }, { models: ["base", "lora-b"] }]);
      await pushPolicy(gateway, { a: "lora-a", b: "lora-b", c: "lora-a", shared: "base" });
      const served = async (model: string, prompt: string): Promise<string | undefined> =>
        gateway.servedBy(
          (await send(gateway.url, { path: "/v1/completions", body: { model, prompt } })).headers,
        );
      for (let i = 0; i < 5; i++) {
        expect([await served("a", text(i)), await served("b", text(i))]).toEqual(["replica-0", "replica-1"]);
      }
      const { counters } = await settled(gateway);
      expect(counters["modelsRewritten"]).toBe(10);
      // Two names for one model share its cache: their keys are the model's.
      await served("c", text("one prompt"));
      await settled(gateway);
      const before = await gateway.metric("epp_matched_tokens_total");
      await served("a", text("one prompt"));
      await until(
        "the prefix was found",
        async () => (await gateway.metric("epp_matched_tokens_total")) > before + 300,
      );
    } finally {
      await gateway.stop();
    }
  });

  it("is a trusted header's where no rule counts, and a client's header counts for nothing", async () => {
    for (const trusted of [true, false]) {
      const gateway = await startGateway(version, {
        replicas: 1,
        snapshot: { models: [] },
        pluginConfig: settings({ trustModelRewriteHeader: trusted }),
      });
      try {
        await pushPolicy(gateway, { ruled: "by-rule" });
        const [replica] = gateway.replicas;
        const asked = async (
          model: string | undefined,
          headers: Record<string, string>,
        ): Promise<unknown> => {
          replica!.forget();
          const { status } = await send(gateway.url, {
            path: "/v1/completions",
            headers,
            body: { model, prompt: "p" },
          });
          if (status !== 200) return status;
          const { body, headers: seen } = replica!.received[0]!;
          expect(Object.keys(seen).filter((name) => name.endsWith("model-name-rewrite"))).toEqual([]);
          return (JSON.parse(body.toString()) as { model?: unknown }).model;
        };
        const [name, alias] = ["x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"];
        expect(await asked("m", { [name]: "new" })).toBe(trusted ? "new" : "m");
        expect(await asked("m", { [alias]: "old" })).toBe(trusted ? "old" : "m");
        expect(await asked("m", { [alias]: "old", [name]: "new" })).toBe(trusted ? "new" : "m");
        expect(await asked("m", { [name]: "n".repeat(257) })).toBe("m");
        expect(await asked("ruled", { [name]: "new" })).toBe("by-rule");
        expect(await asked(undefined, { [name]: "new" })).toBe(trusted ? "new" : 400);
      } finally {
        await gateway.stop();
      }
    }
  });
});

describe.each(ENVOY_VERSIONS)("a split on Envoy %s", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  beforeAll(async () => {
    gateway = await startGateway(version, { replicas: 1, snapshot: { models: [] }, concurrency: 2 });
    await pushPolicy(gateway, { m: { stable: 70, canary: 30 } });
    gateway.replicas[0]!.behave(async ({ received, response, bodyRead }) => {
      await bodyRead;
      response.setHeader(
        "x-model",
        String((JSON.parse(received.body.toString()) as { model: unknown }).model),
      );
      response.end();
    });
  });
  afterAll(() => gateway?.stop());

  interface Turn {
    readonly headers?: Record<string, string>;
    readonly fields?: object;
  }
  const modelOf = async (
    history: readonly object[],
    { headers = {}, fields = {} }: Turn = {},
  ): Promise<string> =>
    String(
      (
        await send(gateway.url, {
          path: CHAT_PATH,
          headers,
          body: { messages: history, ...fields, model: "m" },
        })
      ).headers["x-model"],
    );
  const user = (content: string): object => ({ role: "user", content });
  const system = {
    role: "system",
    content: text("You are a helpful assistant of this very company.", 3_000),
  };

  it("keeps all turns of a conversation on one target, and conversations with one system text at their shares", async () => {
    let canaries = 0;
    const conversations = 150;
    for (let c = 0; c < conversations; c++) {
      const history: object[] = [system, user(`question ${c}`)];
      const first = await modelOf(history);
      if (first === "canary") canaries++;
      for (let turn = 0; turn < 2; turn++) {
        history.push({ role: "assistant", content: text(`answer ${c} ${turn}`, 500) }, user(`and ${turn}?`));
        expect(await modelOf(history)).toBe(first);
      }
    }
    // Conversations are the same in every run: the share is a fixed number, near 30 %.
    expect(canaries / conversations).toBeGreaterThan(0.18);
    expect(canaries / conversations).toBeLessThan(0.42);
  });

  it.each<[string, (id: string) => Turn]>([
    ["a session's id", (id) => ({ headers: { "x-session-id": id } })],
    ["an agent's session", (id) => ({ headers: { "x-claude-code-session-id": id } })],
    [
      "a session over a tenant",
      (id) => ({ headers: { "session-id": id, "x-llm-d-inference-fairness-id": String(Math.random()) } }),
    ],
    ["a tenant's id", (id) => ({ headers: { "x-llm-d-inference-fairness-id": id } })],
    ["a tenant's id by its old name", (id) => ({ headers: { "x-gateway-inference-fairness-id": id } })],
    ["a user", (id) => ({ fields: { user: id } })],
  ])("goes by %s where it is given", async (_, turn) => {
    const seen = new Set<string>();
    for (let i = 0; i < 12; i++) {
      const of = new Set<string>();
      for (let k = 0; k < 4; k++) of.add(await modelOf([user(`${i} ${k}`)], turn(`id-${i}`)));
      expect(of.size).toBe(1);
      for (const model of of) seen.add(model);
    }
    expect([...seen].toSorted()).toEqual(["canary", "stable"]);
  });

  it("follows a new policy at once", async () => {
    await pushPolicy(gateway, { m: "canary" });
    expect(await modelOf([user("x")])).toBe("canary");
    await pushPolicy(gateway, {});
    expect(await modelOf([user("x")])).toBe("m");
    const { pools } = await gateway.status<{ pools: Record<string, unknown>[] }>();
    expect(pools[0]).toMatchObject({ rewriteRules: 0, objectives: 0, policyAgeMs: expect.any(Number) });
    gateway.replicas[0]!.behave(answer(200));
  });
});

describe.each(ENVOY_VERSIONS)("a rewritten request in trouble on Envoy %s", (version) => {
  it("goes to the next host with its new body when the first refuses", async () => {
    const gateway = await startGateway(version, { replicas: 2, snapshot: { models: [] } });
    try {
      await pushPolicy(gateway, { alias: "org/target-70b" });
      const [dead, alive] = gateway.replicas;
      await dead!.kill();
      // Which of the two a prompt prefers, nobody knows.
      let sent = 0;
      await until("an attempt was repeated", async () => {
        const body = { model: "alias", prompt: text(sent++) };
        expect((await send(gateway.url, { path: "/v1/completions", body })).status).toBe(200);
        return (await gateway.metric("epp_requests_retried_total")) > 0;
      });
      expect(alive!.received).toHaveLength(sent);
      for (const [i, { body }] of alive!.received.entries()) {
        expect(JSON.parse(body.toString())).toEqual({ model: "org/target-70b", prompt: text(i) });
      }
      await settled(gateway);
    } finally {
      await gateway.stop();
    }
  });

  it("goes on as it is, and is counted, in a gateway that shows the filter no bodies", async () => {
    const gateway = await startGateway(version, {
      replicas: 1,
      snapshot: { models: [] },
      edit: (bootstrap) => {
        delete inference(bootstrap).http_filters[0]!.typed_config.config.allow_on_headers_stop_iteration;
      },
    });
    try {
      await pushPolicy(gateway, { alias: "org/target-70b" });
      for (let i = 0; i < 2; i++) {
        await send(gateway.url, { path: "/v1/completions", body: { model: "alias", prompt: "p" } });
      }
      for (const { body } of gateway.replicas[0]!.received) {
        expect(body.toString()).toBe('{"model":"alias","prompt":"p"}');
      }
      expect((await settled(gateway)).counters).toMatchObject({ rewritesMissed: 2, modelsRewritten: 0 });
    } finally {
      await gateway.stop();
    }
  });
});
