// Anthropic's three input counts make one sum: in every order of their names, cut anywhere, at the largest numbers.
import {
  USAGE_BYTES,
  usageBegin,
  usageCachedTokens,
  usageEnd,
  usageFeed,
  usageFound,
  usageHasCachedTokens,
  usagePromptTokens,
} from "../../assembly/prompt/usage";

const body: usize = memory.data(1024, 16);
const record: usize = memory.data(256, 8);

function read(text: string, chunk: u32): void {
  const bytes = <u32>String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, body);
  usageBegin(record, false);
  for (let at: u32 = 0; at < bytes; at += chunk) usageFeed(record, body + at, min(chunk, bytes - at));
  usageEnd(record);
}

// The orders of three names: first, second and the one left.
function inOrder(order: u32, input: string, cached: string, created: string): string {
  const names = [`"input_tokens":${input}`, `"cache_read_input_tokens":${cached}`];
  names.push(`"cache_creation_input_tokens":${created}`);
  const first = order % 3;
  const second = (first + 1 + order / 3) % 3;
  const usage = `${names[first]},${names[second]},${names[3 - first - second]}`;
  return `{"type":"message","usage":{${usage},"output_tokens":4}}`;
}

describe("Anthropic's input counts", () => {
  it("add up in every order and every chunk", () => {
    expect(USAGE_BYTES).toBeLessThanOrEqual(256);
    for (let order: u32 = 0; order < 6; order++) {
      const text = inOrder(order, "25", "128", "16");
      for (let chunk: u32 = 1; chunk <= <u32>text.length; chunk++) {
        read(text, chunk);
        expect(usagePromptTokens(record)).toBe(169, text);
        expect(usageCachedTokens(record)).toBe(128, text);
      }
    }
  });

  it("stop at the largest count instead of wrapping", () => {
    const largest = "2147483647";
    read(inOrder(0, largest, largest, largest), 64);
    expect(usagePromptTokens(record)).toBe(<u32>i32.MAX_VALUE);
    read(inOrder(0, largest, "0", "0"), 64);
    expect(usagePromptTokens(record)).toBe(<u32>i32.MAX_VALUE);
    read(inOrder(0, "2147483646", "0", "1"), 64);
    expect(usagePromptTokens(record)).toBe(<u32>i32.MAX_VALUE);
  });

  it("are not told without the tokens outside the cache", () => {
    read('{"usage":{"cache_read_input_tokens":7}}', 64);
    expect(usageFound(record)).toBe(false);
    expect(usagePromptTokens(record)).toBe(0);
    expect(usageHasCachedTokens(record)).toBe(true);
  });
});
