// The simulated tokenizer: lossless, stable, and of a realistic size.
import { describe, expect, it } from "vitest";
import { answerSeed, answerText, answerTokens, naturalLength } from "../../host-sim/model-server/answer.ts";
import { hashBlocks } from "../../host-sim/model-server/block-hash.ts";
import { renderConversation } from "../../host-sim/model-server/chat-template.ts";
import {
  decode,
  encode,
  SPECIAL,
  tokenText,
  VOCABULARY_SIZE,
} from "../../host-sim/model-server/tokenizer.ts";
import { Random } from "../../host-sim/workload/random.ts";
import { prose, toolResult } from "../../host-sim/workload/text.ts";

const SAMPLES = [
  "",
  " ",
  "The quick brown fox jumps over the lazy dog.",
  "if (x != null) {\n    return y[i++];\n}\t// done\r\n",
  "latency_p99=123456 µs — naïve 你好 мир 😀👩‍👩‍👧 e\u0301",
  '{"id":17,"status":"open","tags":["a","b"],"n":-1.5e3}',
  "   leading, trailing and  double  blanks   ",
  "<|im_start|>system\nnot a special token<|im_end|>",
  "\u0000\u0001\u007f\u0080\uffff",
];

describe("tokenizer", () => {
  it.each(SAMPLES.map((text) => [JSON.stringify(text), text]))("gives back %s", (_, text) => {
    expect(decode(encode(text))).toBe(text);
  });

  const seed = (Date.now() ^ process.pid) >>> 0;
  it(`gives back random text of any characters (seed ${seed})`, () => {
    const random = new Random(seed);
    for (let round = 0; round < 300; round++) {
      const points = Array.from({ length: random.integer(0, 40) }, () => {
        const max = random.pick([0x7f, 0xff, 0x2fff, 0x1f9ff]);
        const point = random.integer(0, max);
        return point >= 0xd800 && point <= 0xdfff ? 0x20 : point;
      });
      const text = String.fromCodePoint(...points);
      expect(decode(encode(text))).toBe(text);
    }
  });

  it("has the same ids in every version: a change would change every cached prefix", () => {
    expect(VOCABULARY_SIZE).toBe(10_656);
    expect(encode("hello there")).toEqual([1495, 4661, 8187]);
  });

  it("keeps special tokens out of text", () => {
    const specials: readonly number[] = Object.values(SPECIAL);
    for (const id of encode("<|im_start|>user<|im_end|><|endoftext|>")) expect(specials).not.toContain(id);
  });

  it("makes one token of four to five characters of prose, as real vocabularies do in English", () => {
    const text = prose(new Random(3), 20_000);
    const ratio = text.length / encode(text).length;
    expect(ratio).toBeGreaterThan(4);
    expect(ratio).toBeLessThan(5.5);
  });

  it("writes prose and tool results of about the wanted length", () => {
    const random = new Random(4);
    expect(Math.abs(encode(toolResult(random, 5000)).length / 5000 - 1)).toBeLessThan(0.1);
    for (const tokens of [50, 400, 5000]) {
      expect(Math.abs(encode(prose(random, tokens)).length / tokens - 1)).toBeLessThan(0.25);
    }
  });

  it("refuses to decode an id outside its vocabulary", () => {
    expect(() => decode([VOCABULARY_SIZE])).toThrow(RangeError);
    expect(() => tokenText(-1)).toThrow(RangeError);
  });
});

describe("answers", () => {
  it("depend on the prompt and on nothing else", () => {
    const prompt = encode("What is a KV cache?");
    expect(answerText(answerSeed(prompt, 0), 50)).toBe(answerText(answerSeed(prompt, 0), 50));
    expect(answerText(answerSeed(prompt, 0), 50)).not.toBe(answerText(answerSeed(prompt, 1), 50));
    expect(answerSeed([...prompt, 5], 0)).not.toBe(answerSeed(prompt, 0));
  });

  it("begin with what a shorter limit would have given", () => {
    expect(answerTokens(9, 100).slice(0, 30)).toEqual(answerTokens(9, 30));
  });

  it("come back as the same tokens when the next turn carries them", () => {
    for (let seed = 0; seed < 200; seed++) {
      const prompt = renderConversation([{ role: "user", content: [{ text: `question ${seed}` }] }], "");
      const answer = answerTokens(answerSeed(prompt, 0), 60);
      const content = [{ text: answer.map(tokenText).join("") }];
      const next = renderConversation(
        [
          { role: "user", content: [{ text: `question ${seed}` }] },
          { role: "assistant", content },
        ],
        "",
      );
      expect(next.slice(0, prompt.length + answer.length)).toEqual([...prompt, ...answer]);
    }
  });

  it("have natural lengths around the median and never below the least", () => {
    const lengths = Array.from({ length: 2000 }, (_, seed) => naturalLength(seed * 2_654_435_761)).sort(
      (a, b) => a - b,
    );
    expect(lengths[0]).toBeGreaterThanOrEqual(8);
    expect(Math.abs(lengths[1000]! / 180 - 1)).toBeLessThan(0.1);
  });
});

describe("hashBlocks", () => {
  const tokens = Array.from({ length: 35 }, (_, i) => i);

  it("gives one hash a full block and none for the rest", () => {
    expect(hashBlocks(tokens, 16, {})).toHaveLength(2);
    expect(hashBlocks(tokens.slice(0, 15), 16, {})).toHaveLength(0);
  });

  it("gives equal hashes for equal prefixes alone", () => {
    const changed = tokens.with(20, 99);
    const [a, b] = [hashBlocks(tokens, 16, {}), hashBlocks(changed, 16, {})];
    expect(b[0]).toBe(a[0]);
    expect(b[1]).not.toBe(a[1]);
    const early = hashBlocks(tokens.with(0, 99), 16, {});
    expect(early[0]).not.toBe(a[0]);
    expect(early[1]).not.toBe(a[1]);
  });

  it("tells roots apart", () => {
    const roots = [{}, { lora: "a" }, { lora: "b" }, { cacheSalt: "a" }, { lora: "a", cacheSalt: "a" }];
    const firsts = roots.map((root) => hashBlocks(tokens, 16, root)[0]);
    expect(new Set(firsts).size).toBe(roots.length);
  });

  it("does not repeat over a hundred thousand blocks, and stays a safe integer", () => {
    const many = Array.from({ length: 400_000 }, (_, i) => (i * 7919) % VOCABULARY_SIZE);
    const hashes = hashBlocks(many, 4, {});
    expect(new Set(hashes).size).toBe(100_000);
    expect(hashes.every((hash) => Number.isSafeInteger(hash) && hash > 0)).toBe(true);
  });
});
