// Contexts from creation to deletion: which root has which role and configuration, which stream belongs to it.
import {
  ACTION_CONTINUE,
  BUFFER_PLUGIN_CONFIGURATION,
  LOG_ERROR,
  LOG_INFO,
  STATUS_OK,
} from "../abi/constants";
import { buffer, log, property, valueBytes, valuePtr } from "../abi/host";
import { textEquals, writeBegin, writeBytes, writeLength, writeLiteral } from "../text/text";
import { configFree, configLoad, configSnapshotAgeMaxMs } from "../schema/settings";
import { schemaErrorBytes, schemaErrorPtr, schemaNoticeBytes, schemaNoticePtr } from "../schema/errors";
import { guardBody } from "./guard";
import { environmentLoad } from "./environment";
import { controlBody, controlHeaders } from "./ingest";
import { P_ROOT_ID, ROLE_NAME_INGEST, ROLE_NAME_PICKER } from "./names";
import { setSnapshotAgeMaxMs } from "./pools";
import { prefillReplied, prefillsOfRootEnd } from "./prefill-settle";
import { finishBody, requestBody, requestHeaders } from "./request";
import { responseBody, responseHeaders, streamEnded } from "./response";
import { restoreBody, restoreHeaders } from "./restore";
import {
  NO_ROOT,
  ROLE_INGEST,
  ROLE_PICKER,
  rootAdd,
  rootConfig,
  rootFind,
  rootRemove,
  rootRole,
  setRootConfig,
  setRootRole,
} from "./roots";
import {
  F_GUARDED,
  F_RESTORING,
  F_REWRITTEN,
  PHASE_DECIDED,
  PHASE_INGEST,
  PHASE_READING,
  S_ROOT,
  hasFlag,
  phaseOf,
  streamFind,
  streamRemove,
} from "./streams";
import { tick, tickFaster, tickReset } from "./tick";
import { watchdogReset } from "./watchdog";

/** Largest plugin configuration; a larger one is refused. */
export const CONFIGURATION_BYTES_MAX: u32 = 65536;

// The root of the stream at hand: context_create names it, the stream's first callback follows at once.
const parents: usize = memory.data(8192 * 8, 8);
const PARENTS: u32 = 8192;

const line: usize = memory.data(2048);

function logLine(level: u32, literal: string, ptr: usize, bytes: u32): void {
  writeBegin(line, 2048);
  writeLiteral(literal);
  writeBytes(ptr, bytes);
  log(level, line, writeLength());
}

/** proxy_on_context_create: `parent` 0 = a root context. */
export function contextCreate(context: u32, parent: u32): void {
  if (parent == 0) {
    rootAdd(context);
    return;
  }
  rememberParent(context, parent);
}

// A direct-mapped memory of the latest contexts' parents; a stream whose entry was overwritten before its
// headers came, 8,192 contexts later, passes through untouched.
function rememberParent(context: u32, parent: u32): void {
  const at = parents + ((<usize>(context & (PARENTS - 1))) << 3);
  store<u32>(at, context);
  store<u32>(at, parent, 4);
}

function rootOfStream(context: u32): u32 {
  const at = parents + ((<usize>(context & (PARENTS - 1))) << 3);
  return load<u32>(at) == context ? rootFind(load<u32>(at, 4)) : NO_ROOT;
}

/** proxy_on_vm_start. */
export function vmStart(_context: u32): bool {
  environmentLoad();
  return true;
}

/** proxy_on_configure: false refuses the configuration, and what is wrong with it stands in the log. */
export function configure(context: u32, bytes: u32): bool {
  const root = rootFind(context);
  if (root == NO_ROOT) {
    logLine(LOG_ERROR, "epp: more than 16 root contexts at once", 0, 0);
    return false;
  }
  if (property(P_ROOT_ID) != STATUS_OK) return false;
  const isIngest = textEquals(ROLE_NAME_INGEST, valuePtr(), valueBytes());
  if (!isIngest && !textEquals(ROLE_NAME_PICKER, valuePtr(), valueBytes())) {
    logLine(LOG_ERROR, 'epp: root_id must be "picker" or "ingest", not ', valuePtr(), valueBytes());
    return false;
  }
  watchdogReset(root);
  setRootRole(root, isIngest ? ROLE_INGEST : ROLE_PICKER);
  tickReset(root);
  return isIngest ? true : configurePicker(root, bytes);
}

function configurePicker(root: u32, bytes: u32): bool {
  if (bytes > CONFIGURATION_BYTES_MAX) {
    logLine(LOG_ERROR, "epp: configuration refused: longer than 65536 bytes", 0, 0);
    return false;
  }
  let ptr: usize = 0;
  if (bytes > 0) {
    if (buffer(BUFFER_PLUGIN_CONFIGURATION, 0, bytes) != STATUS_OK) return false;
    ptr = valuePtr();
  }
  const handle = configLoad(ptr, bytes);
  if (handle == 0) {
    logLine(LOG_ERROR, "epp: configuration refused: ", schemaErrorPtr(), schemaErrorBytes());
    return false;
  }
  if (schemaNoticeBytes() > 0) logLine(LOG_INFO, "epp: ", schemaNoticePtr(), schemaNoticeBytes());
  setRootConfig(root, handle);
  setSnapshotAgeMaxMs(configSnapshotAgeMaxMs(handle));
  return true;
}

/** proxy_on_request_headers. */
export function onRequestHeaders(context: u32, endOfStream: bool): u32 {
  const root = rootOfStream(context);
  if (root == NO_ROOT) return ACTION_CONTINUE;
  if (rootRole(root) == ROLE_INGEST) return controlHeaders(context, root, endOfStream);
  if (rootConfig(root) == 0) return ACTION_CONTINUE;
  tickFaster(root);
  return requestHeaders(context, root, rootConfig(root), endOfStream);
}

/** proxy_on_request_body. */
export function onRequestBody(context: u32, bytes: u32, endOfStream: bool): u32 {
  const stream = streamFind(context);
  if (stream == 0) return ACTION_CONTINUE;
  const phase = phaseOf(stream);
  if (phase == PHASE_READING) return requestBody(stream, configOf(stream), bytes, endOfStream);
  if (phase == PHASE_INGEST) return controlBody(stream, bytes, endOfStream);
  if (phase == PHASE_DECIDED && hasFlag(stream, F_GUARDED)) return guardBody(stream, bytes, endOfStream);
  return ACTION_CONTINUE;
}

/** proxy_on_request_trailers: they end the body. */
export function onRequestTrailers(context: u32): u32 {
  const stream = streamFind(context);
  if (stream == 0) return ACTION_CONTINUE;
  if (phaseOf(stream) == PHASE_READING) return finishBody(stream, configOf(stream), true);
  if (phaseOf(stream) == PHASE_INGEST) return controlBody(stream, 0, true);
  return ACTION_CONTINUE;
}

function configOf(stream: usize): u32 {
  return rootConfig(load<u32>(stream, S_ROOT));
}

/** proxy_on_response_headers. */
export function onResponseHeaders(context: u32): void {
  const stream = streamFind(context);
  if (stream == 0 || phaseOf(stream) == PHASE_INGEST) return;
  responseHeaders(stream, configOf(stream));
  if (hasFlag(stream, F_REWRITTEN)) restoreHeaders(stream);
}

/** proxy_on_response_body. */
export function onResponseBody(context: u32, bytes: u32, endOfStream: bool): void {
  const stream = streamFind(context);
  if (stream == 0) return;
  responseBody(stream, bytes, endOfStream);
  if (hasFlag(stream, F_RESTORING)) restoreBody(stream, bytes, endOfStream);
}

/**
 * proxy_on_log, and proxy_on_delete of a stream: gives everything back; the second call finds nothing. The
 * other workers hear of it at the next decision here or the next tick.
 */
export function streamOver(context: u32): void {
  const stream = streamFind(context);
  if (stream == 0) return;
  streamEnded(stream, configOf(stream));
  streamRemove(stream);
}

/** proxy_on_delete: of a stream, or of a root, whose configuration's place is free again. */
export function contextDelete(context: u32): void {
  const root = rootFind(context);
  if (root == NO_ROOT) return streamOver(context);
  prefillsOfRootEnd(root);
  if (rootConfig(root) != 0) configFree(rootConfig(root));
  rootRemove(root);
}

/** proxy_on_http_call_response: calls are made of prefill endpoints only. */
export function onCallReply(context: u32, token: u32, bytes: u32): void {
  prefillReplied(context, token, bytes);
}

/** proxy_on_tick. */
export function onTick(context: u32): void {
  const root = rootFind(context);
  if (root != NO_ROOT) tick(context, root);
}
