// Reads the bytes of every token id from a model's tokenizer.json (the format of Hugging Face's tokenizers library).
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { FileReadError, TokenizerError } from "../errors.ts";
import { TOKENIZER_FILE_BYTES_MAX } from "./limits.ts";
import { pieceBytes, type PieceForm } from "./token-pieces.ts";
import { TokenTable } from "./token-table.ts";

const FILE_NAME = "tokenizer.json";

interface Component {
  readonly type?: unknown;
  readonly decoders?: unknown;
  readonly pretokenizers?: unknown;
  readonly content?: unknown;
  readonly start?: unknown;
  readonly pattern?: { readonly String?: unknown };
}

/**
 * The table of a tokenizer: byte-level BPE (GPT-2, Llama 3, Qwen) or SentencePiece's pieces (Llama 2, Mistral, Gemma,
 * T5).
 * @param path a tokenizer.json, or a folder with one
 * @throws FileReadError, TokenizerError naming the field
 */
export function readTokenizer(path: string): TokenTable {
  const { file, text } = readText(path);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw new TokenizerError(file, "document", "JSON");
  }
  return tokenizerTable(document, file);
}

/**
 * The table of a parsed tokenizer.json.
 * @param source name for messages
 * @throws TokenizerError naming the field
 */
export function tokenizerTable(document: unknown, source: string): TokenTable {
  const root = recordOf(document, source, "document");
  const form = formOf(root, source);
  const table = new TokenTable({ dropsFirstSpace: form === "metaspace" && dropsFirstSpace(root["decoder"]) });
  const add = (id: unknown, bytes: Uint8Array | null, isSpecial: boolean, field: string): void => {
    const isId = typeof id === "number" && Number.isInteger(id) && id >= 0;
    if (!isId || bytes === null || !table.add(id, bytes, isSpecial)) {
      throw new TokenizerError(source, field, "a token and its id within limits");
    }
  };
  // Added tokens first: what they say of an id is meant literally, and the first bytes of an id stay.
  for (const [index, entry] of listOf(root["added_tokens"] ?? [], source, "added_tokens").entries()) {
    const token = recordOf(entry, source, `added_tokens[${index}]`);
    const content = token["content"];
    const bytes = typeof content === "string" ? Buffer.from(content) : null;
    add(token["id"], bytes, token["special"] === true, `added_tokens[${index}]`);
  }
  for (const [piece, id] of vocabulary(root, source)) {
    // A piece outside the byte alphabet is no text that a prompt could have: it is left out, and so unknown.
    const bytes = pieceBytes(piece, form);
    if (bytes !== null) add(id, bytes, false, `model.vocab[${JSON.stringify(piece)}]`);
  }
  return table;
}

function readText(path: string): { file: string; text: string } {
  try {
    const file = statSync(path).isDirectory() ? join(path, FILE_NAME) : path;
    if (statSync(file).size > TOKENIZER_FILE_BYTES_MAX) {
      throw new Error(`it has more than ${TOKENIZER_FILE_BYTES_MAX} bytes`);
    }
    return { file, text: readFileSync(file, "utf8") };
  } catch (error) {
    throw new FileReadError(path, "tokenizer", error);
  }
}

/** Pieces and ids: an object of BPE and WordLevel models, a list of [piece, score] of Unigram models. */
function* vocabulary(root: Record<string, unknown>, source: string): Iterable<[string, unknown]> {
  const model = recordOf(root["model"], source, "model");
  const vocab = model["vocab"];
  if (!Array.isArray(vocab)) {
    yield* Object.entries(recordOf(vocab, source, "model.vocab"));
    return;
  }
  for (const [id, entry] of vocab.entries()) {
    const piece: unknown = Array.isArray(entry) ? entry[0] : undefined;
    if (typeof piece !== "string") throw new TokenizerError(source, `model.vocab[${id}]`, "[piece, score]");
    yield [piece, id];
  }
}

function formOf(root: Record<string, unknown>, source: string): PieceForm {
  const parts = [...flatten(root["decoder"]), ...flatten(root["pre_tokenizer"])];
  if (parts.some(({ type }) => type === "ByteLevel")) return "byte-level";
  const isMetaspace = ({ type, pattern }: Component): boolean =>
    type === "Metaspace" || type === "ByteFallback" || (type === "Replace" && pattern?.String === "▁");
  if (parts.some(isMetaspace)) return "metaspace";
  const types = parts.map(({ type }) => String(type)).join(", ") || "none";
  throw new TokenizerError(source, `decoder ${types}`, "ByteLevel, Metaspace or ByteFallback");
}

/** Strip of one space at the start, or Metaspace, which does the same unless it never wrote one. */
function dropsFirstSpace(decoder: unknown): boolean {
  return flatten(decoder).some((part) => {
    if (part.type === "Strip") return part.content === " " && Number(part.start) > 0;
    const { prepend_scheme: scheme, add_prefix_space: adds } = part as Record<string, unknown>;
    return part.type === "Metaspace" && scheme !== "never" && adds !== false;
  });
}

/** A component, or those of a sequence. */
function flatten(component: unknown): readonly Component[] {
  if (typeof component !== "object" || component === null) return [];
  const { type, decoders, pretokenizers } = component as Component;
  const inner = type === "Sequence" ? (decoders ?? pretokenizers) : undefined;
  if (!Array.isArray(inner)) return [component as Component];
  return inner.filter((part): part is Component => typeof part === "object" && part !== null);
}

function recordOf(value: unknown, source: string, field: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new TokenizerError(source, field, "an object");
}

function listOf(value: unknown, source: string, field: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new TokenizerError(source, field, "a list");
}
