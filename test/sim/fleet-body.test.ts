// Bodies of simulated requests: JSON that says what the request says, and bytes that are shared as the spans are.
import { describe, expect, it } from "vitest";
import { requestBody, spanBytes } from "../../host-sim/fleet/body.ts";
import type { Span } from "../../host-sim/fleet/types.ts";
import { fleetRequest, span } from "./support/fleet.ts";

interface Body {
  readonly model: string;
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly stream: boolean;
  readonly stream_options: { readonly include_usage: boolean };
  readonly max_tokens?: number;
}

function bodyOf(spans: readonly Span[], fields = {}): Body {
  return JSON.parse(requestBody(fleetRequest(0, 0, 0, 9, { spans, ...fields })).toString()) as Body;
}

function commonBytes(a: Buffer, b: Buffer): number {
  let count = 0;
  while (count < a.length && a[count] === b[count]) count++;
  return count;
}

describe("requestBody", () => {
  it("is a streamed chat completion with usage and the output's length", () => {
    const body = bodyOf([span(1, 10)]);
    expect(body).toMatchObject({
      model: "m",
      stream: true,
      stream_options: { include_usage: true },
      max_tokens: 9,
    });
    expect(body.messages).toHaveLength(1);
  });

  it("leaves max_tokens out when clients do not say it", () => {
    const body = requestBody(fleetRequest(0, 0, 10, 9), { maxTokens: false });
    expect(JSON.parse(body.toString())).not.toHaveProperty("max_tokens");
  });

  it("names the adapter as the model, escaped", () => {
    expect(bodyOf([span(1, 10)], { lora: 'a "quoted" ü' }).model).toBe('a "quoted" ü');
  });

  it("makes one message of consecutive spans of one role", () => {
    const spans: Span[] = [
      { id: 1, tokens: 20, role: "system" },
      span(2, 30),
      span(3, 40),
      { id: 4, tokens: 5, role: "assistant" },
      span(5, 6),
    ];
    const { messages } = bodyOf(spans);
    expect(messages.map(({ role }) => role)).toEqual(["system", "user", "assistant", "user"]);
    expect(messages.map(({ content }) => content.length)).toEqual([
      spanBytes(spans[0]!),
      spanBytes(spans[1]!) + spanBytes(spans[2]!),
      spanBytes(spans[3]!),
      spanBytes(spans[4]!),
    ]);
    expect(messages[1]!.content).toMatch(/^2 [a-z ]+3 [a-z ]+$/i);
  });

  it("has 3.6 to 4.4 bytes a token, not the same for every span", () => {
    const perToken = Array.from({ length: 200 }, (_, id) => spanBytes(span(id, 1000)) / 1000);
    expect(Math.min(...perToken)).toBeGreaterThanOrEqual(3.6);
    expect(Math.min(...perToken)).toBeLessThan(3.7);
    expect(Math.max(...perToken)).toBeLessThanOrEqual(4.4);
    expect(Math.max(...perToken)).toBeGreaterThan(4.3);
  });

  it("writes a span's id even when its tokens have fewer bytes", () => {
    expect(bodyOf([span(123_456_789, 1)]).messages[0]!.content).toBe("123456789 ");
  });

  it("shares the bytes of equal leading spans and differs right after them", () => {
    const left = fleetRequest(0, 0, 0, 9, { spans: [span(1, 500), span(2, 700)] });
    const right = fleetRequest(1, 0, 0, 9, { spans: [span(1, 500), span(3, 700)] });
    const [a, b] = [requestBody(left), requestBody(right)];
    const head = '{"model":"m","messages":[{"role":"user","content":"'.length;
    expect(commonBytes(a, b)).toBe(head + spanBytes(span(1, 500)));
    expect(requestBody(left).equals(a)).toBe(true);
  });

  it("writes spans longer than the text that it cuts from", () => {
    const tokens = 600_000;
    const { content } = bodyOf([span(7, tokens)]).messages[0]!;
    expect(content.length).toBe(spanBytes(span(7, tokens)));
    expect(content).toMatch(/^7 [a-zA-Z ]+$/);
  });
});
