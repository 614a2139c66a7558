// Simulated requests as their engines see them: the text that the body's messages become, and where its tokens end.
import { describe, expect, it } from "vitest";
import { requestBody, spanBytes } from "../../host-sim/fleet/body.ts";
import { MESSAGE_CLOSING, messageOpening, RenderedPrompt } from "../../host-sim/fleet/rendered-prompt.ts";
import type { FleetRequest, Span, SpanRole } from "../../host-sim/fleet/types.ts";
import { fleetRequest } from "./support/fleet.ts";

interface Body {
  readonly messages: readonly { readonly role: SpanRole; readonly content: string }[];
}

const span = (id: number, tokens: number, role: SpanRole): Span => ({ id, tokens, role });

const request = (spans: readonly Span[], fields: Partial<FleetRequest> = {}): FleetRequest =>
  fleetRequest(0, 0, 0, 9, { spans, ...fields });

function templated(of: FleetRequest): string {
  const { messages } = JSON.parse(requestBody(of).toString()) as Body;
  const turns = messages.map(({ role, content }) => messageOpening(role) + content + MESSAGE_CLOSING);
  return turns.join("") + messageOpening("assistant");
}

describe("RenderedPrompt", () => {
  it("is the body's messages in the template, then the answer", () => {
    const spans = [span(1, 30, "system"), span(2, 7, "user"), span(3, 12, "user"), span(4, 5, "assistant")];
    for (const of of [request(spans), request([span(5, 40, "user")])]) {
      const text = new RenderedPrompt(of).bytes.toString();
      expect(text.startsWith(templated(of))).toBe(true);
      expect(text.length).toBeGreaterThan(templated(of).length);
    }
  });

  it("ends the last token of a span behind its text, and each token within its span", () => {
    const [first, second] = [span(1, 30, "system"), span(2, 7, "user")];
    const of = request([first, second]);
    const prompt = new RenderedPrompt(of);
    const firstEnd = messageOpening("system").length + spanBytes(first);
    const secondEnd = firstEnd + MESSAGE_CLOSING.length + messageOpening("user").length + spanBytes(second);
    expect(prompt.endBytes([15, 30, 37, 46])).toEqual([
      messageOpening("system").length + Math.floor(spanBytes(first) / 2),
      firstEnd,
      secondEnd,
      prompt.bytes.length,
    ]);
  });

  it("has equal leading bytes where leading spans are equal, the answer among them when it is repeated", () => {
    const spans = [span(1, 30, "system"), span(2, 7, "user")];
    const turn = new RenderedPrompt(request(spans, { answerSpan: 77 }));
    const next = new RenderedPrompt(request([...spans, span(77, 9, "assistant"), span(3, 5, "user")]));
    expect(next.bytes.subarray(0, turn.bytes.length).equals(turn.bytes)).toBe(true);
    expect(next.endBytes([37, 46])).toEqual(turn.endBytes([37, 46]));
    const alone = new RenderedPrompt(request(spans));
    expect(next.bytes.subarray(0, alone.bytes.length).equals(alone.bytes)).toBe(false);
  });
});
