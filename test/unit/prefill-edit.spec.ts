// Edits of the bodies of a disaggregated call, in memory: at every length, and what is no whole object.
import {
  PARAMS_BAD,
  PARAMS_MISSING,
  PARAMS_FOUND,
  PARAMS_NONE,
  PREFILL_ROOM,
  bodyOpen,
  bootstrapPrefixBytes,
  canBeSplit,
  editBootstrap,
  editPrefill,
  findParams,
  paramsPrefixBytes,
  paramsPtr,
  prefillBytes,
  prefillPtr,
} from "../../assembly/prompt/prefill-edit";

const memoryRoom: usize = memory.data(4096, 16);
const body: usize = memoryRoom + PREFILL_ROOM;
const host: usize = memory.data(64);

function put(text: string): u32 {
  return <u32>String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, body);
}

function text(ptr: usize, bytes: u32): string {
  return String.UTF8.decodeUnsafe(ptr, bytes);
}

const HEAD =
  '{"kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null},"stream":false,"max_tokens":1';

describe("a prefill leg's body", () => {
  it("has the members that are not replaced, as they stood", () => {
    expect<bool>(editPrefill(body, put('{"a":1.10,"stream":true,"b":[{"stream":1}]}'))).toBe(true);
    expect<string>(text(prefillPtr(), prefillBytes())).toBe(`${HEAD},"a":1.10,"b":[{"stream":1}]}`);
  });

  it("is whole where nothing is left", () => {
    expect<bool>(editPrefill(body, put('{"stream":true}'))).toBe(true);
    const edited = text(prefillPtr(), prefillBytes());
    expect<bool>(edited.startsWith('{"kv_transfer_params":{')).toBe(true);
    expect<bool>(edited.endsWith('"max_tokens":1}')).toBe(true);
    expect<bool>(editPrefill(body, put("{}"))).toBe(true);
    expect<bool>(text(prefillPtr(), prefillBytes()).endsWith('"max_tokens":1}')).toBe(true);
  });

  it("is the same where it is known where the prompt's list ends", () => {
    const whole = '{ "messages" : [{"content":"}]\\""},[]] ,"n":1, "stream":true,"x":[2] }';
    const bytes = put(whole);
    const from = <u32>whole.indexOf("[{");
    const to = <u32>whole.indexOf("] ,") + 1;
    expect<bool>(canBeSplit(body, bytes, from, to)).toBe(true);
    expect<bool>(editPrefill(body, bytes, from, to)).toBe(true);
    const known = text(prefillPtr(), prefillBytes());
    expect<string>(known).toBe(`${HEAD},"messages" : [{"content":"}]\\""},[]],"n":1,"x":[2]}`);
    put(whole);
    expect<bool>(editPrefill(body, bytes)).toBe(true);
    expect<string>(text(prefillPtr(), prefillBytes())).toBe(known);
    // Not where that is behind the end of what there is.
    put(whole);
    expect<bool>(canBeSplit(body, to - 1, from, to)).toBe(false);
  });

  it("is none where the body is cut, at every length", () => {
    const whole = '{"model":"m","messages":[{"content":"}\\"]"}],"n":1,"x":null}';
    const total = put(whole);
    for (let bytes: u32 = 0; bytes < total; bytes++) {
      put(whole);
      expect<bool>(editPrefill(body, bytes)).toBe(false);
      put(whole);
      expect<bool>(canBeSplit(body, bytes)).toBe(false);
    }
    put(whole);
    expect<bool>(canBeSplit(body, total)).toBe(true);
    expect<bool>(editPrefill(body, total)).toBe(true);
  });
});

describe("a request that asks for more than a computation elsewhere leaves", () => {
  it("is told by its members", () => {
    expect<bool>(canBeSplit(body, put('{"prompt_logprobs":0}'))).toBe(false);
    expect<bool>(canBeSplit(body, put('{"echo":true}'))).toBe(false);
    expect<bool>(canBeSplit(body, put('{"use_beam_search":true}'))).toBe(false);
    expect<bool>(canBeSplit(body, put('{"best_of":2}'))).toBe(false);
    for (let i = 0; i < 4; i++) {
      const several = ['{"n":2}', '{"n":"2"}', '{"n":1.0}', '{"n":1,"n":3}'][i];
      expect<bool>(canBeSplit(body, put(several))).toBe(false);
    }
    expect<bool>(canBeSplit(body, put('{"n":null}'))).toBe(true);
    expect<bool>(canBeSplit(body, put('{"n":1}'))).toBe(true);
    expect<bool>(
      canBeSplit(body, put('{"prompt_logprobs":null,"echo":false,"use_beam_search":false,"best_of":1}')),
    ).toBe(true);
    expect<bool>(canBeSplit(body, put('{"x":{"echo":true}}'))).toBe(true);
    expect<bool>(canBeSplit(body, put('["echo"]'))).toBe(false);
  });
});

describe("a prefill endpoint's parameters", () => {
  it("are the last member of that name, byte for byte", () => {
    const answer =
      '{"kv_transfer_params":1,"c":[{"kv_transfer_params":{}}],"kv_transfer\\u005fparams" : {"id":12345678901234567890} }';
    expect<u32>(findParams(body, put(answer))).toBe(PARAMS_FOUND);
    expect<string>(text(paramsPtr(), paramsPrefixBytes())).toBe(
      '{"kv_transfer_params":{"id":12345678901234567890},',
    );
  });

  it("at the very beginning and end have room for what is put around them", () => {
    expect<u32>(findParams(body, put('{"kv_transfer_params":{}}'))).toBe(PARAMS_FOUND);
    expect<string>(text(paramsPtr(), paramsPrefixBytes())).toBe('{"kv_transfer_params":{},');
    expect<bool>(paramsPtr() >= body).toBe(true);
  });

  it("may be none, or no object, or not there", () => {
    expect<u32>(findParams(body, put('{"kv_transfer_params":null}'))).toBe(PARAMS_NONE);
    expect<u32>(findParams(body, put('{"kv_transfer_params":[]}'))).toBe(PARAMS_BAD);
    expect<u32>(findParams(body, put('{"kv_transfer_params":"{}"}'))).toBe(PARAMS_BAD);
    expect<u32>(findParams(body, put('{"other":{}}'))).toBe(PARAMS_MISSING);
    expect<u32>(findParams(body, put("[]"))).toBe(PARAMS_BAD);
    for (let i = 0; i < 5; i++) {
      const broken = ['{"a":}', "{]", '{"a":"\\x"}', '{"a" 1}', '{"a":1,}'][i];
      expect<u32>(findParams(body, put(`{"kv_transfer_params":${broken}}`))).toBe(PARAMS_BAD);
    }
    expect<u32>(findParams(body, 0)).toBe(PARAMS_BAD);
  });

  it("of an answer that is cut are bad, at every length", () => {
    const whole = '{"id":"x","kv_transfer_params":{"a":[1,2]},"usage":{}}';
    const total = put(whole);
    for (let bytes: u32 = 0; bytes < total; bytes++) {
      put(whole);
      expect<u32>(findParams(body, bytes)).toBe(PARAMS_BAD);
    }
  });
});

describe("a meeting place", () => {
  it("stands in front of all members, after white space and a byte-order mark too", () => {
    const hostBytes = <u32>String.UTF8.encodeUnsafe(changetype<usize>("[fd00::1]"), 9, host);
    const bytes = put('\uFEFF \n{ "model":"m"}');
    const open = bodyOpen(body, bytes);
    expect<bool>(editBootstrap(body, bytes, host, hostBytes, 8998, 9223372036854775807)).toBe(true);
    const front = '{"bootstrap_host":"[fd00::1]","bootstrap_port":8998,"bootstrap_room":9223372036854775807,';
    expect<string>(text(prefillPtr(), prefillBytes())).toBe(`${front} "model":"m"}`);
    expect<u32>(bootstrapPrefixBytes()).toBe(front.length);
    expect<u32>(open).toBe(6);
    expect<bool>(editBootstrap(body, put("[]"), host, hostBytes, 8998, 1)).toBe(false);
  });
});
