// The edit finds the model that the reader read: at every length of a body, and in every kind of chunk.
import { API_CHAT } from "../../assembly/prompt/api";
import {
  promptBegin,
  promptFeed,
  promptHasModel,
  promptModelBytes,
  promptModelPtr,
} from "../../assembly/prompt/record";
import { MODEL_VALUE, locateModel, spliceFrom, spliceTo } from "../../assembly/prompt/splice";
import { CHAIN_BYTES, chainRelease, chainReset } from "../../assembly/prefix/chain";
import { PROMPT_BYTES } from "../../assembly/prompt/layout";
import { rawEquals } from "../../assembly/json/raw";

const body: usize = memory.data(1024, 16);
const record: usize = memory.data(1024, 16);
const chain: usize = memory.data(128, 16);

function put(text: string): u32 {
  return <u32>String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, body);
}

function read(bytes: u32, chunk: u32): void {
  chainRelease(chain);
  chainReset(chain);
  promptBegin(record, API_CHAT, chain);
  for (let at: u32 = 0; at < bytes; at += chunk) promptFeed(record, body + at, min(chunk, bytes - at));
}

const TEXT =
  '{"messages":[{"role":"user","content":"\\"model\\":\\"x\\""}],"model":"first","t":{"model":"deep"},"mod\\u0065l":"l\\u00e4st é" ,"n":1}';

describe("the model to be exchanged", () => {
  it("is the one that was read, for every beginning of a body", () => {
    expect<bool>(PROMPT_BYTES <= 1024 && CHAIN_BYTES <= 128).toBe(true);
    const total = put(TEXT);
    let found = 0;
    for (let bytes: u32 = 1; bytes <= total; bytes++) {
      read(bytes, bytes);
      if (!promptHasModel(record)) continue;
      expect<u32>(locateModel(body, bytes)).toBe(MODEL_VALUE);
      const inside = body + spliceFrom() + 1;
      const length = spliceTo() - spliceFrom() - 2;
      expect<bool>(rawEquals(inside, length, promptModelPtr(record), promptModelBytes(record))).toBe(true);
      found++;
    }
    expect<i32>(found).toBeGreaterThan(40);
  });

  it("does not depend on the chunks in which the body came", () => {
    const total = put(TEXT);
    for (let chunk: u32 = 1; chunk <= total; chunk++) {
      read(total, chunk);
      expect<u32>(locateModel(body, total)).toBe(MODEL_VALUE);
      const inside = body + spliceFrom() + 1;
      const length = spliceTo() - spliceFrom() - 2;
      expect<bool>(rawEquals(inside, length, promptModelPtr(record), promptModelBytes(record))).toBe(true);
    }
  });
});
