// Bytes of token ids: from tokenizer files of both kinds, and learnt from servers.
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { encode, tokenBytes, VOCABULARY_SIZE } from "../../host-sim/model-server/tokenizer.ts";
import {
  ConnectionError,
  FileReadError,
  StatusError,
  TimeoutError,
  TokenizerError,
} from "../../sidecar/errors.ts";
import { MEDIA_TOKEN } from "../../sidecar/kv-events/events.ts";
import { TOKEN_BYTES_MAX, TOKEN_IDS_MAX } from "../../sidecar/kv-events/limits.ts";
import { TokenLearner } from "../../sidecar/kv-events/token-learner.ts";
import { HttpTokenServer, type TokenServer } from "../../sidecar/kv-events/token-server.ts";
import { TokenTable, UNKNOWN_TOKEN } from "../../sidecar/kv-events/token-table.ts";
import { readTokenizer, tokenizerTable } from "../../sidecar/kv-events/tokenizer-file.ts";
import { REAL_MODELS, realModel, tokenizerPath } from "../sim/support/real-models.ts";
import { startReplica } from "../sim/support/replica.ts";
import { SILENT } from "./kv-events-support.ts";
import { temporaryFolder } from "./servers.ts";

const BYTE_LEVEL = {
  added_tokens: [{ id: 9, content: "<|im_start|>", special: true }],
  pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "Split" }, { type: "ByteLevel" }] },
  decoder: { type: "ByteLevel" },
  model: {
    type: "BPE",
    vocab: { "!": 0, Ġthe: 1, Ċ: 2, Ã: 3, "©": 4, ĠâĢľ: 5, Ń: 6, "<|im_start|>": 9, 日: 12 },
  },
};
const SENTENCE_PIECE = {
  added_tokens: [{ id: 1, content: "<s>", special: true }],
  decoder: {
    type: "Sequence",
    decoders: [
      { type: "Replace", pattern: { String: "▁" }, content: " " },
      { type: "ByteFallback" },
      { type: "Fuse" },
      { type: "Strip", content: " ", start: 1, stop: 0 },
    ],
  },
  model: { type: "BPE", vocab: { "<unk>": 0, "<s>": 1, "<0xE2>": 2, "▁the": 3, "▁▁": 4, é: 5 } },
};
const UNIGRAM = {
  decoder: { type: "Metaspace", replacement: "▁", prepend_scheme: "always" },
  model: {
    type: "Unigram",
    vocab: [
      ["<pad>", 0],
      ["▁of", -2.5],
    ],
  },
};

function hexOf(table: TokenTable, ids: readonly number[]): (string | null)[] {
  return ids.map((id) =>
    table.lengthOf(id) === UNKNOWN_TOKEN ? null : Buffer.from(table.bytesOf(id)).toString("hex"),
  );
}

describe("a tokenizer file", () => {
  it("of a byte-level vocabulary gives each piece's bytes, parts of characters too", () => {
    const table = tokenizerTable(BYTE_LEVEL, "t");
    const bytes = [
      "21",
      "20746865",
      "0a",
      "c3",
      "a9",
      "20e2809c",
      "ad",
      null,
      "3c7c696d5f73746172747c3e",
      null,
    ];
    expect(hexOf(table, [0, 1, 2, 3, 4, 5, 6, 7, 9, 12])).toEqual(bytes);
    expect([table.size, table.dropsFirstSpace]).toEqual([8, false]);
    expect(Buffer.from(table.render([1, 3, 4])!).toString()).toBe(" theé");
  });

  it("of SentencePiece gives spaces, raw bytes, and drops the first space", () => {
    const table = tokenizerTable(SENTENCE_PIECE, "t");
    expect(hexOf(table, [1, 2, 3, 4, 5])).toEqual(["3c733e", "e2", "20746865", "2020", "c3a9"]);
    const text = (ids: number[]): string => Buffer.from(table.render(ids)!).toString();
    expect([text([1, 3, 3]), text([4]), text([1])]).toEqual(["<s>the the", " ", "<s>"]);
    const later = Buffer.alloc(8, ".");
    expect([table.write([3, 3], 1, 2, false, later, 2), later.toString()]).toEqual([6, ".. the.."]);
    expect([table.textLength([3, 1, 9], 0, 2), table.textLength([3, 1, 9], 0, 3)]).toEqual([
      7,
      UNKNOWN_TOKEN,
    ]);
    const unigram = tokenizerTable(UNIGRAM, "t");
    expect([hexOf(unigram, [0, 1]), unigram.dropsFirstSpace]).toEqual([["3c7061643e", "206f66"], true]);
    const never = { ...UNIGRAM, decoder: { ...UNIGRAM.decoder, prepend_scheme: "never" } };
    expect(tokenizerTable(never, "t").dropsFirstSpace).toBe(false);
  });

  it("covers every byte of the alphabet once", () => {
    let next = 0x100;
    const characters = Array.from({ length: 256 }, (_, byte) => {
      const isPrintable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
      return String.fromCharCode(isPrintable ? byte : next++);
    });
    const vocab = Object.fromEntries(characters.map((character, byte) => [character, byte]));
    const table = tokenizerTable({ ...BYTE_LEVEL, added_tokens: [], model: { vocab } }, "t");
    const all = Array.from({ length: 256 }, (_, byte) => byte);
    expect([...table.render(all)!]).toEqual(all);
  });

  it("is read from its path or its model's folder", () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(UNIGRAM));
    expect(readTokenizer(folder).size).toBe(2);
    expect(readTokenizer(join(folder, "tokenizer.json")).size).toBe(2);
    mkdirSync(join(folder, "empty"));
    expect(() => readTokenizer(join(folder, "empty"))).toThrow(FileReadError);
    writeFileSync(join(folder, "broken.json"), "{");
    expect(() => readTokenizer(join(folder, "broken.json"))).toThrow("document: expected JSON");
  });

  it.each([
    ["model", { ...UNIGRAM, model: null }, "model: expected an object"],
    ["vocabulary", { ...UNIGRAM, model: { vocab: 1 } }, "model.vocab: expected an object"],
    ["piece", { ...UNIGRAM, model: { vocab: [[1, 0]] } }, "model.vocab[0]: expected [piece, score]"],
    ["id", { ...BYTE_LEVEL, model: { vocab: { a: -1 } } }, 'model.vocab["a"]: expected a token and its id'],
    ["high id", { ...BYTE_LEVEL, model: { vocab: { a: TOKEN_IDS_MAX } } }, 'model.vocab["a"]'],
    ["added token", { ...BYTE_LEVEL, added_tokens: [{ id: 1 }] }, "added_tokens[0]: expected a token"],
    ["list", { ...BYTE_LEVEL, added_tokens: {} }, "added_tokens: expected a list"],
    [
      "decoder",
      { ...UNIGRAM, decoder: { type: "WordPiece" } },
      "decoder WordPiece: expected ByteLevel, Metaspace",
    ],
    ["no decoder", { model: UNIGRAM.model }, "decoder none: expected"],
    ["document", [], "document: expected an object"],
  ])("names a bad %s", (_, document, message) => {
    expect(() => tokenizerTable(document, "t.json")).toThrow(TokenizerError);
    expect(() => tokenizerTable(document, "t.json")).toThrow(`tokenizer "t.json": ${message}`);
  });
});

describe("the table", () => {
  it("keeps an id's first bytes, grows, and refuses what is beyond its limits", () => {
    const table = new TokenTable({ dropsFirstSpace: false });
    expect(table.add(5, Buffer.from("a"))).toBe(true);
    expect(table.add(5, Buffer.from("b"))).toBe(true);
    expect(table.add(TOKEN_IDS_MAX - 1, Buffer.alloc(TOKEN_BYTES_MAX, 7))).toBe(true);
    expect(table.add(TOKEN_IDS_MAX, Buffer.of(1))).toBe(false);
    expect(table.add(6, Buffer.alloc(TOKEN_BYTES_MAX + 1))).toBe(false);
    expect([table.size, table.lengthOf(TOKEN_IDS_MAX - 1), table.lengthOf(6)]).toEqual([
      2,
      TOKEN_BYTES_MAX,
      -1,
    ]);
    expect(table.lengthOf(2 ** 32 - 1)).toBe(UNKNOWN_TOKEN);
    expect(hexOf(table, [5])).toEqual(["61"]);
    expect(table.render([5, 6])).toBeNull();
    expect(table.render([])).toHaveLength(0);
  });
});

/** A server that knows the simulated vocabulary; counts requests and may fail. */
class FakeTokenServer implements TokenServer {
  calls: string[] = [];
  failing: Error | null = null;

  constructor(
    private readonly spelling: "pieces" | "none" = "pieces",
    readonly name = "fake",
  ) {}

  async tokenize(text: string): Promise<{ tokens: number[]; pieces: string[] }> {
    this.calls.push("tokenize");
    if (this.failing !== null) throw this.failing;
    const tokens = encode(text);
    const pieces = this.spelling === "none" ? [] : tokens.map((id) => spell(tokenBytes(id)));
    return { tokens, pieces };
  }

  async detokenize(tokens: readonly number[]): Promise<string> {
    this.calls.push("detokenize");
    if (this.failing !== null) throw this.failing;
    return Buffer.concat(tokens.map(tokenBytes)).toString();
  }
}

/** GPT-2's spelling, for the bytes that the tests meet. */
function spell(bytes: Buffer): string {
  return [...bytes]
    .map((byte) => {
      if (byte < 0x21) return String.fromCharCode(0x100 + byte);
      if (byte > 0x7e && byte < 0xa1) return String.fromCharCode(0x100 + 0x21 + byte - 0x7f);
      return byte === 0xad ? String.fromCharCode(0x143) : String.fromCharCode(byte);
    })
    .join("");
}

describe("learning from a server", () => {
  const text = "The router compares prefix caches: naïve café 日本語 😀.";

  it("learns whole tokens by their texts, and parts of characters by the tokens around them", async () => {
    const server = new FakeTokenServer();
    const learner = new TokenLearner(SILENT);
    const tokens = encode(text);
    await learner.learn(server, [tokens]);
    expect(Buffer.from(learner.table.render(tokens)!).toString()).toBe(text);
    const before = server.calls.length;
    await learner.learn(server, [tokens]);
    expect(server.calls.length).toBe(before);
  });

  it("asks for many ids at once", async () => {
    const server = new FakeTokenServer();
    const learner = new TokenLearner(SILENT);
    const ids = Array.from({ length: 1_500 }, (_, i) => VOCABULARY_SIZE - 1 - i);
    await learner.learn(server, [ids]);
    expect(learner.table.size).toBeGreaterThanOrEqual(1_500);
    // Two about how the server decodes, then 512 ids a call.
    expect(server.calls.filter((call) => call === "detokenize")).toHaveLength(2 + 3);
  });

  it.each(
    REAL_MODELS.flatMap((name) => [
      { name, spelt: "spelt" },
      { name, spelt: "not spelt" },
    ]),
  )("completes parts of characters that stand alone, of $name, $spelt", async ({ name, spelt }) => {
    const model = realModel(name);
    const server: TokenServer = {
      name,
      tokenize: async (text) => {
        const tokens = model.encode(text, false);
        return { tokens, pieces: spelt === "spelt" ? tokens.map((id) => model.tokenPiece(id)) : [] };
      },
      detokenize: async (tokens) => model.decode(tokens),
    };
    const learner = new TokenLearner(SILENT);
    const right = readTokenizer(tokenizerPath(name));
    const ids = [..."日本語のテスト 👩‍👩‍👧‍👦🧑🏿‍🚀 𝔘𝔫𝔦 ﷽ हिन्दी ไทย 각뷁힣 \u{10fffd}\u{e0061}"].flatMap((character) =>
      model.encode(character, false),
    );
    const replacements = ["\ufffd\ufffd", " \ufffd", ".\ufffd", "\ufffds"].flatMap((text) =>
      model.encode(text, false),
    );
    // Without pieces nothing tells that character from what is none.
    if (spelt === "spelt") ids.push(...replacements);
    // Each by itself, so that none has its neighbours.
    for (const id of ids) await learner.learn(server, [[id]]);
    if (spelt === "not spelt") await learner.learn(server, [replacements]);
    expect(hexOf(learner.table, ids)).toEqual(hexOf(right, ids));
    const known = hexOf(learner.table, replacements);
    expect(known).toEqual(spelt === "spelt" ? hexOf(right, replacements) : known.map(() => null));
    expect(ids.filter((id) => model.tokenText(id).includes("\uFFFD")).length).toBeGreaterThan(20);
  });

  it("leaves a part of a character unknown that no byte completes, where the server does not spell tokens", async () => {
    const server = new FakeTokenServer("none");
    const learner = new TokenLearner(SILENT);
    vi.spyOn(server, "tokenize").mockImplementation(async (text) => {
      const tokens = encode(text);
      // Rare characters are tokens of their own, none of a byte.
      return { tokens: Buffer.byteLength(text) === 4 ? tokens.slice(1) : tokens, pieces: [] };
    });
    await learner.learn(server, [encode("café")]);
    expect(learner.table.render(encode("caf"))).not.toBeNull();
    expect(learner.table.render(encode("é"))).toBeNull();
  });

  it("never asks for what stands in the place of pictures", async () => {
    const server = new FakeTokenServer("none");
    const asked = vi.spyOn(server, "detokenize");
    const learner = new TokenLearner(SILENT);
    await learner.learn(server, [[MEDIA_TOKEN, 300, MEDIA_TOKEN]]);
    expect([learner.table.lengthOf(300), learner.failures]).toEqual([tokenBytes(300).length, 0]);
    expect(asked.mock.calls.flatMap(([tokens]) => tokens)).not.toContain(MEDIA_TOKEN);
    expect(asked).toHaveBeenCalled();
  });

  it("learns nothing from a server that does not spell tokens after one that does", async () => {
    const learner = new TokenLearner(SILENT);
    await learner.learn(new FakeTokenServer(), [encode("a")]);
    await learner.learn(new FakeTokenServer("none", "other"), [encode("caf\u{1f9d1}\u{1f3ff}")]);
    for (let id = 0; id < VOCABULARY_SIZE; id++) expect(learner.table.lengthOf(id)).not.toBe(0);
  });

  it("waits for a server that restarts, a second at a time, and for no other", async () => {
    let nowMs = 0;
    const slept: number[] = [];
    const server = new FakeTokenServer();
    const learner = new TokenLearner(
      SILENT,
      () => nowMs,
      async (ms) => {
        slept.push(ms);
        nowMs += ms;
        // The other one's tokens are learnt meanwhile.
        if (slept.length === 1) await learner.learn(new FakeTokenServer("pieces", "other"), [[301]]);
        if (slept.length === 3) server.failing = null;
      },
    );
    server.failing = new ConnectionError("fake", new Error("refused"));
    await learner.learn(server, [[300]]);
    expect([learner.failures, slept]).toEqual([3, [1_000, 1_000, 1_000]]);
    expect(learner.table.lengthOf(300)).toBe(tokenBytes(300).length);
    expect(learner.table.lengthOf(301)).toBe(tokenBytes(301).length);
  });

  it("waits no longer for a server that goes on failing, or refuses to answer, and never rejects", async () => {
    const faults: [Error, number][] = [
      [new TimeoutError("fake", 2_000), 5],
      [new StatusError("fake", 503), 5],
      [new StatusError("fake", 404), 1],
      [new TokenizerError("fake", "x", "y"), 1],
    ];
    for (const [fault, attempts] of faults) {
      let nowMs = 0;
      const server = new FakeTokenServer();
      const learner = new TokenLearner(
        SILENT,
        () => nowMs,
        async (ms) => void (nowMs += ms),
      );
      server.failing = fault;
      await learner.learn(server, [[300]]);
      expect([learner.failures, learner.table.size]).toEqual([attempts, 0]);
      server.failing = null;
      await learner.learn(server, [[300]]);
      expect([learner.failures, learner.table.size]).toEqual([attempts, 0]);
      nowMs += 1_000;
      await learner.learn(server, [[300]]);
      expect(learner.table.lengthOf(300)).toBe(tokenBytes(300).length);
    }
  });

  it("keeps nothing of servers that failed and are gone", async () => {
    const learner = new TokenLearner(SILENT);
    for (const name of ["one", "two", "three"]) {
      const server = new FakeTokenServer("pieces", name);
      server.failing = new StatusError("fake", 404);
      await learner.learn(server, [[300]]);
    }
    expect(learner.failing).toBe(3);
    learner.forgetOthers(new Set(["two", "four"]));
    expect(learner.failing).toBe(1);
    // The one that is left is not asked again before its time, one that came back is.
    await learner.learn(new FakeTokenServer("pieces", "two"), [[300]]);
    expect(learner.table.size).toBe(0);
    await learner.learn(new FakeTokenServer("pieces", "one"), [[300]]);
    expect(learner.table.lengthOf(300)).toBe(tokenBytes(300).length);
    expect(learner.failing).toBe(1);
  });

  it("speaks a simulated server's API", async () => {
    const replica = await startReplica();
    const server = new HttpTokenServer(replica.address, () => ({ tls: null, token: null }));
    const learner = new TokenLearner(SILENT);
    const tokens = encode(text);
    await learner.learn(server, [tokens]);
    expect(Buffer.from(learner.table.render(tokens)!).toString()).toBe(text);
  });

  it("tells what a server's answers lack", async () => {
    const answers: [number, string][] = [];
    const seen: string[] = [];
    const bodies: string[] = [];
    const fake = createServer((request, response) => {
      seen.push(`${request.url} ${request.headers.authorization}`);
      const [status, body] = answers.shift()!;
      let asked = "";
      request.on("data", (chunk: Buffer) => (asked += chunk.toString()));
      request.once("end", () => {
        bodies.push(asked);
        response.writeHead(status).end(body);
      });
    });
    await new Promise<void>((resolve) => fake.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void fake.close());
    const address = `127.0.0.1:${(fake.address() as AddressInfo).port}`;
    const server = new HttpTokenServer(address, () => ({ tls: null, token: "secret" }));
    answers.push(
      [404, "{}"],
      [200, "no"],
      [200, '{"tokens":[-1]}'],
      [200, '{"prompt":1}'],
      [200, '{"tokens":[5]}'],
      [200, '{"text":"<|im_end|>"}'],
    );
    await expect(server.tokenize("a")).rejects.toMatchObject({ code: "status-unexpected" });
    await expect(server.tokenize("a")).rejects.toThrow("answer: expected a JSON object");
    await expect(server.tokenize("a")).rejects.toThrow("/tokenize tokens: expected token ids");
    await expect(server.detokenize([1])).rejects.toThrow("/detokenize prompt or text: expected a text");
    expect(await server.tokenize("a")).toEqual({ tokens: [5], pieces: [] });
    // SGLang's answer, which has no special tokens unless they are asked for.
    expect(await server.detokenize([5])).toBe("<|im_end|>");
    expect(JSON.parse(bodies.at(-1)!)).toEqual({ tokens: [5], skip_special_tokens: false });
    expect(seen[0]).toBe("/tokenize Bearer secret");
    const nobody = new HttpTokenServer("127.0.0.1:1", () => ({ tls: null, token: null }));
    await expect(nobody.detokenize([1])).rejects.toMatchObject({ code: "connection-failed" });
  });
});
