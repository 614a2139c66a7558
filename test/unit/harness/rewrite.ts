// The edits of a model's name, in requests and responses, as one small module.
import "../../../assembly/abi/abort";
import {
  restoreBegin,
  restoreFeed,
  restoreSetClient,
  restoreSetModel,
  restoreTaken,
  restoreWritten,
} from "../../../assembly/prompt/restore";
import { RESTORE_BYTES } from "../../../assembly/prompt/restore-layout";

export { locateModel, spliceFrom, spliceIntoEmpty, spliceTo } from "../../../assembly/prompt/splice";
export { rawEquals } from "../../../assembly/json/raw";
export { restoreTaken, restoreWritten };

const input: usize = memory.data(1048576, 16);
const output: usize = memory.data(1048576, 16);
const record: usize = memory.data(600, 16);
const names: usize = memory.data(512, 16);

/** 1 MiB for what is read. */
export function inputPtr(): usize {
  return input;
}
/** 1 MiB for what is written. */
export function outputPtr(): usize {
  return output;
}

/** Starts a response for names laid down in the input: the client's, and the model's behind it. */
export function begin(clientBytes: u32, modelBytes: u32, isEventStream: bool): void {
  memory.copy(names, input, clientBytes);
  restoreSetClient(record, names, clientBytes);
  restoreSetModel(record, input + clientBytes, modelBytes);
  restoreBegin(record, isEventStream);
}

/** Feeds `bytes` bytes of the input, with room for `room` bytes of output. */
export function feed(bytes: u32, room: u32, isLast: bool): bool {
  return restoreFeed(record, input, bytes, output, room, isLast);
}

if (RESTORE_BYTES != 600) unreachable();
