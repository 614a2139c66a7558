// The edits of a model's name: where it stands in a request, and giving it back in a response cut anywhere.
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { compileHarness, instantiateHarness } from "./support/harness.ts";
import { random } from "./support/random.ts";

// biome-ignore lint/suspicious/noExplicitAny: every export of the harness by its name
type Exports = Record<string, any>;

const [NOWHERE, VALUE, ABSENT] = [0, 1, 2];

let compiled: WebAssembly.Module;
let h: Exports;
beforeAll(async () => {
  compiled = await compileHarness("rewrite");
});
beforeEach(() => {
  h = instantiateHarness<Exports>(compiled);
});

const memory = (ptr: number, bytes: number): Buffer => Buffer.from(h["memory"].buffer, ptr, bytes);
function put(...parts: (string | Buffer)[]): number {
  const bytes = Buffer.concat(parts.map((part) => Buffer.from(part as string)));
  bytes.copy(memory(h["inputPtr"](), bytes.length));
  return bytes.length;
}

describe("the model in a request", () => {
  const locate = (body: string | Buffer): number => h["locateModel"](h["inputPtr"](), put(body));
  /** The body with its model exchanged for `value`, as the filter puts it together. */
  function exchanged(body: string, value = '"new"'): string {
    const found = locate(body);
    if (found === NOWHERE) return "nowhere";
    const bytes = Buffer.from(body);
    const comma = h["spliceIntoEmpty"]() ? "" : ",";
    const text = found === ABSENT ? `"model":${value}${comma}` : value;
    return bytes.toString("utf8", 0, h["spliceFrom"]()) + text + bytes.toString("utf8", h["spliceTo"]());
  }

  it.each([
    ['{"model":"a"}', '{"model":"new"}'],
    [' \t\r\n{ "model" : "a" , "x":1}', ' \t\r\n{ "model" : "new" , "x":1}'],
    [
      '{"x":{"model":"b"},"y":[{"model":"b"},"model"],"model":"a"}',
      '{"x":{"model":"b"},"y":[{"model":"b"},"model"],"model":"new"}',
    ],
    ['{"model":"a","model":"b","x":"model"}', '{"model":"a","model":"new","x":"model"}'],
    ['{"mod\\u0065\\u006c":"a"}', '{"mod\\u0065\\u006c":"new"}'],
    ['{"model":"a\\"b\\\\","x":"}"}', '{"model":"new","x":"}"}'],
    ['{"x":"\\\\","y":"\\"","model":"a"}', '{"x":"\\\\","y":"\\"","model":"new"}'],
    ['{"model":null}', '{"model":"new"}'],
    ['{"model":-1.5e3 ,"x":1}', '{"model":"new" ,"x":1}'],
    ['{"model":{"model":"a"},"x":1}', '{"model":"new","x":1}'],
    ['{"model":["}",{}],"x":1}', '{"model":"new","x":1}'],
    ['{"prompt":"p"}', '{"model":"new","prompt":"p"}'],
    ['{ "prompt":"p"}', '{"model":"new", "prompt":"p"}'],
    ["{}", '{"model":"new"}'],
    ["{ \n}", '{"model":"new" \n}'],
    ['\ufeff{"model":"a"}', '\ufeff{"model":"new"}'],
    ['{"model ":"a","Model":"b","mode":"c"}', '{"model":"new","model ":"a","Model":"b","mode":"c"}'],
    ['{"☕":"é","model":"☕"}', '{"☕":"é","model":"new"}'],
    ["[]", "nowhere"],
    ['"model"', "nowhere"],
    ["", "nowhere"],
    ["  ", "nowhere"],
  ])("%s becomes %s", (body, expected) => {
    expect(exchanged(body)).toBe(expected);
  });

  it("is found in a beginning only when its value is whole", () => {
    const body = '{"a":[1,{"model":"x"}],"model":"abc","n":1,"model":12,"z":"z"}';
    const firstEnd = body.indexOf(',"n"');
    const lastEnd = body.indexOf(',"z"');
    for (let bytes = 1; bytes <= body.length; bytes++) {
      const found = locate(body.slice(0, bytes));
      const value = found === VALUE ? body.slice(h["spliceFrom"](), h["spliceTo"]()) : "";
      // A number is whole only when something follows it.
      expect(value, `${bytes} bytes`).toBe(bytes > lastEnd ? "12" : bytes >= firstEnd ? '"abc"' : "");
      expect(h["spliceTo"]()).toBeLessThanOrEqual(bytes);
    }
  });

  it("is where JSON.parse has it, in random bodies", () => {
    const { seed, next } = random();
    const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)]!;
    const value = (depth: number): unknown =>
      pick<() => unknown>([
        () => "model",
        () => 'text with "model":"a" \\ and ☕ \n',
        () => next() * 1e6,
        () => null,
        () => (depth > 3 ? true : { [pick(["model", "x"])]: value(depth + 1), y: [value(depth + 1)] }),
        () => (depth > 3 ? false : [value(depth + 1), { model: value(depth + 1) }]),
      ])();
    for (let round = 0; round < 500; round++) {
      const members = Array.from(
        { length: Math.floor(next() * 6) },
        () => [pick(["model", "a", "b", "c"]), value(0)] as const,
      );
      const indent = pick([undefined, 2, "\t"]);
      const body = `{${members.map(([name, one]) => `${JSON.stringify(name)}: ${JSON.stringify(one, null, indent)}`).join(" ,")}}`;
      expect(JSON.parse(exchanged(body)), `seed ${seed}: ${body}`).toEqual({
        ...(JSON.parse(body) as object),
        model: "new",
      });
    }
  });
});

describe("a JSON string in its text", () => {
  const equals = (raw: string | Buffer, text: string): boolean => {
    const rawBytes = Buffer.byteLength(raw);
    const total = put(raw, text);
    const at = h["inputPtr"]();
    return h["rawEquals"](at, rawBytes, at + rawBytes, total - rawBytes) !== 0;
  };
  it.each([
    ["abc", "abc", true],
    ["", "", true],
    ["ab", "abc", false],
    ["abc", "ab", false],
    ["\\u0061\\u00e9\\u2615\\ud83d\\ude00", "aé☕\u{1f600}", true],
    ['\\"\\\\\\/\\b\\f\\n\\r\\t', '"\\/\b\f\n\r\t', true],
    ["\\ud83d", "\ufffd", true],
    ["\\ude00x", "\ufffdx", true],
    ["\\ud83d\\u0061", "\ufffda", true],
    ["\\u00", "\0", false],
    ["\\x", "x", false],
    ["\\", "\\", false],
    ["é", "é", true],
    ["\\u00E9", "é", true],
  ])("%s stands for %j: %s", (raw, text, expected) => {
    expect(equals(raw, text)).toBe(expected);
  });
});

describe("a response", () => {
  const CLIENT = 'cl"ient\\ é';
  const MODEL = "org/model-é";
  const ROOM = 1_048_576;

  /** What the client reads of a response that comes in chunks of these sizes (the last one repeats). */
  function restored(
    response: string | Buffer,
    sizes: readonly number[],
    isStream: boolean,
    names = [CLIENT, MODEL],
  ): string {
    const [client, model] = names.map((name) => Buffer.from(name)) as [Buffer, Buffer];
    put(client, model);
    h["begin"](client.length, model.length, isStream ? 1 : 0);
    const bytes = Buffer.from(response as string);
    const read: Buffer[] = [];
    for (let at = 0, i = 0; at <= bytes.length; i++) {
      const chunk = bytes.subarray(at, at + sizes[Math.min(i, sizes.length - 1)]!);
      at += Math.max(chunk.length, 1);
      put(chunk);
      const isLast = at > bytes.length;
      expect(h["feed"](chunk.length, ROOM, isLast ? 1 : 0)).not.toBe(0);
      read.push(
        Buffer.from(memory(h["outputPtr"](), h["restoreWritten"]())),
        chunk.subarray(h["restoreTaken"]()),
      );
    }
    return Buffer.concat(read).toString("utf8");
  }
  const whole = [ROOM];
  const s = JSON.stringify;

  const DOCUMENTS: readonly (readonly [string, string])[] = [
    [`{"model":${s(MODEL)}}`, `{"model":${s(CLIENT)}}`],
    [`{"id":"1", "model" : "org\\/model-\\u00e9" ,"x":1}`, `{"id":"1", "model" : ${s(CLIENT)} ,"x":1}`],
    [
      `{"response":{"model":${s(MODEL)}},"message":{"model":${s(MODEL)}}}`,
      `{"response":{"model":${s(CLIENT)}},"message":{"model":${s(CLIENT)}}}`,
    ],
    [
      `{"model":${s(MODEL)},"x":[1],"model":${s(MODEL)}}`,
      `{"model":${s(CLIENT)},"x":[1],"model":${s(CLIENT)}}`,
    ],
    [`{"a":"\\\\\\"","model":${s(MODEL)}}`, `{"a":"\\\\\\"","model":${s(CLIENT)}}`],
  ];
  const KEPT: readonly string[] = [
    `{"other":{"model":${s(MODEL)}},"message":[{"model":${s(MODEL)}}],"choices":[{"message":{"model":${s(MODEL)}}}]}`,
    `{"response":{"tool":{"model":${s(MODEL)}}},"x":"model","y":${s(MODEL)}}`,
    `{"message":{"response":{"model":${s(MODEL)}}}}`,
    `{"content":${s(`"model":"${MODEL}"`)}}`,
    `{"model":"${MODEL}2"}`,
    `{"model":"${MODEL.slice(0, -1)}"}`,
    `{"model":null,"Model":${s(MODEL)},"models":${s(MODEL)}}`,
    `{"model":[${s(MODEL)}]}`,
    `{"model":{"id":${s(MODEL)}}}`,
    `[{"model":${s(MODEL)}}]`,
    `"model"`,
    `{"model":"${"x".repeat(2_000)}"}`,
    `{"model":"org/mod`,
    `{"model":"\\`,
    "",
  ];

  it.each([...DOCUMENTS, ...KEPT.map((text) => [text, text] as const)])(
    "of %s reads %s at every chunk size",
    (document, expected) => {
      for (const isStream of [false, true]) {
        const [text, wanted] = isStream
          ? [`data: ${document}\n\n`, `data: ${expected}\n\n`]
          : [document, expected];
        for (let size = 1; size <= Math.min(Buffer.byteLength(text) + 1, 150); size++) {
          expect(restored(text, [size], isStream), `chunks of ${size}`).toBe(wanted);
        }
      }
    },
  );

  it("is the same cut in two at every place", () => {
    const text = DOCUMENTS.map(([document]) => `event: x\r\ndata:${document}\r\n\r\n: model\n`).join(
      "data: [DONE]\n\n",
    );
    const expected = DOCUMENTS.map(([, document]) => `event: x\r\ndata:${document}\r\n\r\n: model\n`).join(
      "data: [DONE]\n\n",
    );
    for (let at = 1; at < Buffer.byteLength(text); at++) {
      expect(restored(text, [at, ROOM], true), `cut at ${at}`).toBe(expected);
    }
  });

  it("is the same in random pieces, broken documents among them", () => {
    const { seed, next } = random();
    const lines = [...DOCUMENTS, ...KEPT.map((text) => [text, text] as const)];
    for (let round = 0; round < 200; round++) {
      const chosen = Array.from({ length: 8 }, () => lines[Math.floor(next() * lines.length)]!);
      const end = ["\n\n", "\r\n\r\n", "\r\r"][Math.floor(next() * 3)]!;
      const join = (index: 0 | 1): string => chosen.map((line) => `data: ${line[index]}${end}`).join("");
      const sizes = Array.from({ length: 400 }, () => 1 + Math.floor(next() ** 3 * 60));
      expect(restored(join(0), sizes, true), `seed ${seed}`).toBe(join(1));
    }
  });

  it("has nothing to replace where no name of ours stands: the chunk is left alone", () => {
    put(CLIENT, MODEL);
    h["begin"](Buffer.byteLength(CLIENT), Buffer.byteLength(MODEL), 1);
    const bytes = put('data: {"model":"another","choices":[]}\n\n');
    expect(h["feed"](bytes, ROOM, 0)).not.toBe(0);
    expect([h["restoreTaken"](), h["restoreWritten"]()]).toEqual([0, 0]);
  });

  it("takes no more of a chunk than up to the last name", () => {
    put("c", "model-name");
    h["begin"](1, 10, 0);
    const bytes = put(`{"model":"model-name","data":[${"1,".repeat(10_000)}1]}`);
    expect(h["feed"](bytes, ROOM, 1)).not.toBe(0);
    expect([h["restoreTaken"](), h["restoreWritten"]()]).toEqual([20, 11]);
  });

  it("that outgrows its room stays as it is but for what was held back", () => {
    const [client, model] = ["c".repeat(250), "model"];
    put(client, model);
    h["begin"](client.length, model.length, 1);
    put('data: {"model":"mo');
    expect(h["feed"](18, 600, 0)).not.toBe(0);
    expect([h["restoreTaken"](), h["restoreWritten"]()]).toEqual([18, 16]);
    const bytes = put(`del"}\n\n${'data: {"model":"model"}\n\n'.repeat(4)}`);
    expect(h["feed"](bytes, 600, 0)).toBe(0);
    expect(h["restoreTaken"]()).toBe(0);
    expect(memory(h["outputPtr"](), h["restoreWritten"]()).toString()).toBe("mo");
  });

  it("gives the longest names back", () => {
    const names = ["é".repeat(128), "☕".repeat(85)];
    // Escaped for the most part: 290 of the 304 bytes that can be held back.
    const escaped = `${"\\u2615".repeat(10)}${"☕".repeat(75)}`;
    for (const sizes of [[1], [7], [100], whole]) {
      expect(restored(`{"model":"${escaped}"}`, sizes, false, names)).toBe(`{"model":"${names[0]}"}`);
    }
  });
});
