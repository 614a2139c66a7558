// The raw text of a member: what JSON.parse would round or reorder.
import { describe, expect, it } from "vitest";
import { memberText } from "../../host-sim/model-server/disaggregation/raw-json.ts";

describe("memberText", () => {
  it.each([
    ['{"a":1,"room":9223372036854775807}', "9223372036854775807"],
    ['{"room" : 1.50 , "b":2}', "1.50"],
    ['{\n\t"room":\r\n null}', "null"],
    ['{"room":{"b":[1,{"c":"}"}]},"z":0}', '{"b":[1,{"c":"}"}]}'],
    ['{"room":[[1],"]\\"",{}]}', '[[1],"]\\"",{}]'],
    ['{"room":"a\\\\"}', '"a\\\\"'],
    ['{"room":1,"room":2}', "2"],
    ['{"\\u0072oom":7}', "7"],
    ['{"a":{"room":1},"b":["room",{"room":2}],"c":"room"}', undefined],
    ['{"a":"\\"room\\":1"}', undefined],
    ['{"rooms":1}', undefined],
    ["{}", undefined],
  ])("of %s", (text, expected) => {
    expect(memberText(text, "room")).toBe(expected);
    if (expected !== undefined) expect(JSON.parse(expected)).toEqual(JSON.parse(text).room);
  });
});
