// Parameters of session-affinity-scorer and session-affinity-filter.
import { treeCount, treeFirst, treeNext, treeTextIs, treeTextLen, treeTextPtr } from "../json/tree";
import {
  INSTANCE_AT_A,
  INSTANCE_AT_COUNT,
  INSTANCE_AT_LIST,
  INSTANCE_AT_MODE,
  NO_HEADER,
} from "../schedule/plan";
import { REQUEST_HEADERS_MAX } from "../schedule/request";
import {
  EVICTION_TTL_MS_DEFAULT,
  STRATEGY_ENCODED_ENDPOINT,
  STRATEGY_SESSION_ID,
} from "../schedule/session-affinity";
import { isRefused, pathBack, pathElement, pathMark, pathMember, refuse } from "./errors";
import {
  arrayField,
  choiceField,
  numberField,
  objectBegin,
  objectEnd,
  objectField,
  refuseField,
  textField,
} from "./fields";
import { slotAlloc, slotHeader, slotHeaderName, slotSetSessionHeader } from "./slots";
import { ascii, textBytes } from "../text/text";

const TOKEN_HEADER = ascii("x-session-token");
const ID_HEADER = ascii("x-session-id");
// Where llm-d's agent-identity looks for an id, in this order (llm-d-router agentidentity @ ebab6879).
const AGENT_HEADER_1 = ascii("x-claude-code-session-id");
const AGENT_HEADER_2 = ascii("x-session-affinity");
const AGENT_HEADER_3 = ascii("session-id");
const AGENT_HEADER_4 = ascii("session_id");
const NO_ROOM = "at most 8 different request headers over all plugins";
const SECONDS_MAX: f64 = 31536000;

/** Reads strategy, encodedEndpointHeaderConfig, sessionIdConfig and profileName. False: refused. */
export function sessionParameters(node: i32, slot: usize, instance: usize): bool {
  objectBegin(node);
  const isId =
    choiceField(
      "strategy",
      "encoded_endpoint_header",
      "session_id",
      '"encoded_endpoint_header" or "session_id"',
    ) == 1;
  const encoded = objectField("encodedEndpointHeaderConfig");
  const session = objectField("sessionIdConfig");
  textField("profileName");
  if (!objectEnd()) return false;
  store<u8>(instance, <u8>(isId ? STRATEGY_SESSION_ID : STRATEGY_ENCODED_ENDPOINT), INSTANCE_AT_MODE);
  const list = slotAlloc(slot, REQUEST_HEADERS_MAX);
  if (list == 0) return refuse(node, NO_ROOM);
  store<u32>(instance, <u32>list, INSTANCE_AT_LIST);
  const mark = pathMark();
  pathMember("encodedEndpointHeaderConfig");
  readEncoded(encoded, slot, instance, isId);
  pathBack(mark);
  pathMember("sessionIdConfig");
  readSessionId(session, slot, instance, isId);
  pathBack(mark);
  return !isRefused();
}

function readEncoded(node: i32, slot: usize, instance: usize, isId: bool): void {
  objectBegin(node);
  const name = textField("headerName");
  if (!objectEnd() || isId) return;
  if (name >= 0) addHeader(instance, slot, treeTextPtr(name), treeTextLen(name), name);
  else addHeader(instance, slot, TOKEN_HEADER, textBytes(TOKEN_HEADER), node);
  if (isRefused()) return;
  const list = <usize>load<u32>(instance, INSTANCE_AT_LIST);
  slotSetSessionHeader(slot, slotHeaderName(slot, <u32>load<u8>(list)));
}

function readSessionId(node: i32, slot: usize, instance: usize, isId: bool): void {
  objectBegin(node);
  const sources = arrayField("sources");
  const ttl = numberField("evictionTtlSeconds", 0, 0, SECONDS_MAX, "a number of seconds ≥ 0");
  numberField("evictionSweepSeconds", 0, 0, SECONDS_MAX, "a number of seconds ≥ 0");
  if (!objectEnd() || !isId) return;
  store<f64>(instance, ttl > 0 ? ttl * 1000 : EVICTION_TTL_MS_DEFAULT, INSTANCE_AT_A);
  if (treeCount(sources) == 0) {
    addHeader(instance, slot, ID_HEADER, textBytes(ID_HEADER), node);
    return;
  }
  const mark = pathMark();
  let source = treeFirst(sources);
  for (let i: u32 = 0; source >= 0 && !isRefused(); i++) {
    pathMember("sources");
    pathElement(i);
    readSource(source, slot, instance);
    pathBack(mark);
    source = treeNext(source);
  }
}

function readSource(node: i32, slot: usize, instance: usize): void {
  objectBegin(node);
  const header = textField("header");
  const attribute = textField("attribute");
  textField("producer");
  if (!objectEnd()) return;
  if (header >= 0 == attribute >= 0) {
    refuse(node, "exactly one of header and attribute");
    return;
  }
  if (header >= 0) {
    addHeader(instance, slot, treeTextPtr(header), treeTextLen(header), header);
    return;
  }
  if (!treeTextIs(attribute, "agent-identity")) {
    refuseField("attribute", attribute, '"agent-identity", the one attribute that is supported');
    return;
  }
  addHeader(instance, slot, AGENT_HEADER_1, textBytes(AGENT_HEADER_1), attribute);
  addHeader(instance, slot, AGENT_HEADER_2, textBytes(AGENT_HEADER_2), attribute);
  addHeader(instance, slot, AGENT_HEADER_3, textBytes(AGENT_HEADER_3), attribute);
  addHeader(instance, slot, AGENT_HEADER_4, textBytes(AGENT_HEADER_4), attribute);
}

function addHeader(instance: usize, slot: usize, ptr: usize, bytes: u32, node: i32): void {
  const count = load<u32>(instance, INSTANCE_AT_COUNT);
  const header = count < REQUEST_HEADERS_MAX ? slotHeader(slot, ptr, bytes) : NO_HEADER;
  if (header == NO_HEADER) {
    refuse(node, NO_ROOM);
    return;
  }
  store<u8>(<usize>load<u32>(instance, INSTANCE_AT_LIST) + count, <u8>header);
  store<u32>(instance, count + 1, INSTANCE_AT_COUNT);
}
