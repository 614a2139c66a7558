// Why a body was refused, in the words of llm-d's parsers, so that clients that look at them see no difference.
import {
  JSON_BAD_ESCAPE,
  JSON_BAD_LITERAL,
  JSON_BAD_NUMBER,
  JSON_BAD_UTF8,
  JSON_CONTROL_CHARACTER,
  JSON_EXPECTED_COLON,
  JSON_EXPECTED_COMMA,
  JSON_EXPECTED_KEY,
  JSON_EXPECTED_VALUE,
  JSON_TOO_DEEP,
  JSON_TRAILING,
  JSON_UNEXPECTED_END,
} from "../json/events";
import {
  DETAIL_INSIDE,
  DETAIL_MINUS,
  DETAIL_POINT,
  DETAIL_ZERO,
  scannerErrorByte,
  scannerErrorCode,
  scannerErrorDetail,
  scannerErrorOffset,
} from "../json/fault";
import { writeBegin, writeByte, writeBytes, writeLength, writeLiteral, writeU64 } from "../text/text";
import { JSON_DEPTH_MAX } from "../wire/limits";
import { API_ANTHROPIC_MESSAGES, API_SGLANG_GENERATE, API_VLLM_GENERATE } from "./api";
import { AT_API, AT_BAD, AT_BAD_BYTES, AT_BAD_INDEX, AT_ERROR, scannerOf } from "./layout";
import {
  PROMPT_BAD_JSON,
  PROMPT_CHAT,
  PROMPT_COMPLETIONS,
  PROMPT_CONVERSATIONS,
  PROMPT_EMBEDDINGS,
  PROMPT_EXTRA_KEY,
  PROMPT_GENERATE_KIND,
  PROMPT_IMAGES,
  PROMPT_INPUT_EMPTY,
  PROMPT_INPUT_KIND,
  PROMPT_INPUT_MISSING,
  PROMPT_MESSAGES,
  PROMPT_MESSAGES_KIND,
  PROMPT_NOT_OBJECT,
  PROMPT_RESPONSES,
  PROMPT_TOKEN_ID,
  PROMPT_TOKEN_IDS,
} from "./validate";

/** Bytes of an error text; longer ones are cut. */
const TEXT_BYTES: u32 = 192;
const text: usize = memory.data(192);

/** What is wrong with the body, as ASCII; valid until the next call. Its length: promptErrorBytes. */
export function promptErrorPtr(record: usize): usize {
  writeBegin(text, TEXT_BYTES);
  writeError(record);
  return text;
}

/** Length of promptErrorPtr's text. */
export function promptErrorBytes(record: usize): u32 {
  writeBegin(text, TEXT_BYTES);
  writeError(record);
  return writeLength();
}

/** Offset in the body where it stops being JSON; 0 for other errors. */
export function promptErrorOffset(record: usize): u64 {
  const isJson = <u32>load<u8>(record, AT_ERROR) == PROMPT_BAD_JSON;
  return isJson ? scannerErrorOffset(scannerOf(record)) : 0;
}

function writeError(record: usize): void {
  const code = <u32>load<u8>(record, AT_ERROR);
  if (code == PROMPT_BAD_JSON || code == PROMPT_NOT_OBJECT) {
    writePrefix(<u32>load<u8>(record, AT_API));
    if (code == PROMPT_NOT_OBJECT) writeLiteral("the body is not a JSON object");
    else writeJsonError(scannerOf(record));
  } else if (code == PROMPT_TOKEN_ID) {
    writeBadTokenId(record);
  } else {
    writeFixed(code);
  }
}

function writePrefix(api: u32): void {
  if (api == API_ANTHROPIC_MESSAGES) writeLiteral("error unmarshaling request body: ");
  else if (api == API_SGLANG_GENERATE) writeLiteral("invalid generate request: ");
  else if (api != API_VLLM_GENERATE) writeLiteral("error unmarshaling request bodyMap: ");
}

function writeFixed(code: u32): void {
  switch (code) {
    case PROMPT_CHAT:
      return writeLiteral("invalid chat completions request: must have valid messages field");
    case PROMPT_COMPLETIONS:
      return writeLiteral("invalid completions request: must have prompt field");
    case PROMPT_RESPONSES:
      return writeLiteral("invalid responses request: must have input field");
    case PROMPT_CONVERSATIONS:
      return writeLiteral("invalid conversations request: must have items field");
    case PROMPT_EMBEDDINGS:
      return writeLiteral("invalid embeddings request: must have input field");
    case PROMPT_IMAGES:
      return writeLiteral("invalid images generations request: must have prompt field");
    case PROMPT_MESSAGES:
      return writeLiteral("invalid messages request: must have at least one message");
    case PROMPT_MESSAGES_KIND:
      return writeLiteral("error parsing messages request: a field is of the wrong type");
    case PROMPT_TOKEN_IDS:
      return writeLiteral("invalid generate request: must have non-empty token_ids field");
    case PROMPT_GENERATE_KIND:
      return writeLiteral("invalid generate request: a field is of the wrong type");
    case PROMPT_INPUT_MISSING:
      return writeLiteral("invalid generate request: input_ids must be provided");
    case PROMPT_INPUT_EMPTY:
      return writeLiteral("invalid generate request: input_ids cannot be empty");
    case PROMPT_INPUT_KIND:
      return writeLiteral("invalid generate request: input_ids must be an array of uint32 integers");
    case PROMPT_EXTRA_KEY:
      return writeLiteral("unsupported generate request: extra_key must be a string");
    default:
      return;
  }
}

function writeBadTokenId(record: usize): void {
  const bytes = <u32>load<u8>(record, AT_BAD_BYTES);
  writeLiteral("invalid generate request: token_ids[");
  writeU64(<u64>load<u32>(record, AT_BAD_INDEX));
  writeLiteral("]: invalid value");
  if (bytes == 0) return;
  writeByte(0x20);
  writeBytes(record + AT_BAD, bytes);
}

// The words of Go's encoding/json, which llm-d's picker passes on.
function writeJsonError(scanner: usize): void {
  const code = scannerErrorCode(scanner);
  if (code == JSON_UNEXPECTED_END) return writeLiteral("unexpected end of JSON input");
  if (code == JSON_TOO_DEEP) {
    writeLiteral("exceeded max depth of ");
    return writeU64(JSON_DEPTH_MAX);
  }
  if (code == JSON_BAD_UTF8) {
    writeLiteral("invalid UTF-8 in string literal at byte ");
    return writeU64(scannerErrorOffset(scanner));
  }
  writeLiteral("invalid character ");
  writeQuoted(scannerErrorByte(scanner));
  writeByte(0x20);
  writeContext(code, scannerErrorDetail(scanner));
}

function writeContext(code: u32, detail: u32): void {
  switch (code) {
    case JSON_EXPECTED_VALUE:
      return writeLiteral("looking for beginning of value");
    case JSON_EXPECTED_KEY:
      return writeLiteral("looking for beginning of object key string");
    case JSON_EXPECTED_COLON:
      return writeLiteral("after object key");
    case JSON_EXPECTED_COMMA:
      return writeLiteral(detail == DETAIL_INSIDE ? "after object key:value pair" : "after array element");
    case JSON_TRAILING:
      return writeLiteral("after top-level value");
    case JSON_CONTROL_CHARACTER:
      return writeLiteral("in string literal");
    case JSON_BAD_ESCAPE:
      return writeLiteral(
        detail == DETAIL_INSIDE ? "in \\u hexadecimal character escape" : "in string escape code",
      );
    case JSON_BAD_NUMBER:
      return writeNumberContext(detail);
    case JSON_BAD_LITERAL:
      return writeLiteralContext(detail & 0xff, detail >> 8);
    default:
      return;
  }
}

function writeNumberContext(detail: u32): void {
  if (detail == DETAIL_MINUS) writeLiteral("in numeric literal");
  else if (detail == DETAIL_ZERO) writeLiteral("after a leading zero in numeric literal");
  else if (detail == DETAIL_POINT) writeLiteral("after decimal point in numeric literal");
  else writeLiteral("in exponent of numeric literal");
}

function writeLiteralContext(literal: u32, right: u32): void {
  if (literal > 2) return writeLiteral("looking for beginning of value");
  const word = literal == 0 ? "true" : literal == 1 ? "false" : "null";
  writeLiteral("in literal ");
  writeLiteral(word);
  writeLiteral(" (expecting '");
  writeByte(load<u8>(changetype<usize>(word) + ((<usize>right) << 1)));
  writeLiteral("')");
}

// A byte in single quotes; what is not printable by its number.
function writeQuoted(byte: u32): void {
  writeByte(0x27);
  if (byte == 0x27 || byte == 0x5c) {
    writeByte(0x5c);
    writeByte(<u8>byte);
  } else if (byte >= 0x20 && byte < 0x7f) {
    writeByte(<u8>byte);
  } else if (byte == 9 || byte == 10 || byte == 13) {
    writeByte(0x5c);
    writeByte(byte == 9 ? 0x74 : byte == 10 ? 0x6e : 0x72);
  } else {
    writeLiteral("\\x");
    writeHex(byte >> 4);
    writeHex(byte & 15);
  }
  writeByte(0x27);
}

function writeHex(digit: u32): void {
  writeByte(<u8>(digit < 10 ? 0x30 + digit : 0x57 + digit));
}
