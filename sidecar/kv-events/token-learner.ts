// Learns the bytes of token ids from a model server, where no tokenizer file is at hand.
import { setTimeout } from "node:timers/promises";
import { codeOf, ConnectionError, messageOf, StatusError, TimeoutError, TokenizerError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { MEDIA_TOKEN } from "./events.ts";
import { UNKNOWN_TOKEN, TokenTable } from "./token-table.ts";
import {
  askByteTokens,
  type ByteTokens,
  byteTokensOf,
  completedBytes,
  type Completion,
  completionsOf,
  RARE_CHARACTERS,
} from "./token-fragments.ts";
import { pieceBytes, type PieceForm } from "./token-pieces.ts";
import type { Tokenized, TokenServer } from "./token-server.ts";

/** Ids of one request. */
const BATCH_IDS = 512;
/** The same of parts of characters, each of which is asked for in many ways. */
const BATCH_FRAGMENTS = 16;
/** Requests about the tokens of one batch; what is not known then stays unknown. */
const REQUESTS_MAX = 64;
/** A server that could not be asked is not asked again for this long. */
const RETRY_AFTER_MS = 1_000;
/**
 * Failures in a row up to which a batch waits for the next attempt: a server that restarts publishes what it computes
 * before its API answers. After them tokens stay unknown while the server fails, and batches wait no longer.
 */
const PATIENT_FAILURES = 5;
/** Stands between tokens, so that each one's text can be told from its neighbours'. No token contains it. */
const SEPARATOR = "<:|:>";
const REPLACEMENT = "\uFFFD";
/** That character itself, as tokens of Llama 3 and Qwen have it: in a text it cannot be told from what is no character. */
const REPLACEMENTS = "0R0RR0RRR0RRRR0 R0 RRRR0.R0Rs0Rt0".replaceAll("R", REPLACEMENT);
/** A text that a server gives back changed if its decoding takes spaces away. */
const SPACED = "a . b , c ? d";
/**
 * Characters before which such a decoding takes spaces away: clean_up_tokenization of transformers 4, which Llama 3
 * asks for (clean_up_tokenization_spaces). Transformers 5 leaves byte-level tokenizers alone.
 */
const LOSES_SPACES_BEFORE = /[.?!,']/;

/** How a server answered of late. */
interface Asked {
  failuresInRow: number;
  retryAtMs: number;
  /** One batch at a time: the next one's tokens may be known by then. */
  queue: Promise<void>;
}

/**
 * Fills a table by two requests of vLLM's API. `/detokenize` of many ids with a separator between them gives each
 * one's text, which is its bytes unless the token is a part of a character. Those are learnt from the tokens around
 * them: their text, sent to `/tokenize` with `return_token_strs`, comes back as pieces of the vocabulary. So are tokens
 * whose text may have lost a space. What is left are parts of characters that no text has whole: other bytes complete
 * them (token-fragments.ts).
 */
export class TokenLearner {
  readonly table = new TokenTable({ dropsFirstSpace: false });
  /** Requests that failed since start. */
  failures = 0;
  private separator: readonly number[] | null = null;
  private form: PieceForm | null = null;
  private losesSpaces = false;
  private completions: readonly Completion[] = [];
  /** By name; those that answer are not in it. */
  private readonly servers = new Map<string, Asked>();
  private reported = "";

  constructor(
    private readonly log: Logger,
    private readonly now: () => number = () => performance.now(),
    private readonly sleep: (ms: number) => Promise<unknown> = setTimeout,
  ) {}

  /**
   * Learns what is not known of some texts' tokens. Never rejects; what cannot be learnt stays unknown.
   * @param texts tokens in the order in which they stand in a prompt
   */
  learn(server: TokenServer, texts: readonly (readonly number[])[]): Promise<void> {
    if (this.unknownOf(texts).length === 0) return Promise.resolve();
    const asked = this.servers.get(server.name) ?? {
      failuresInRow: 0,
      retryAtMs: 0,
      queue: Promise.resolve(),
    };
    this.servers.set(server.name, asked);
    const queue = asked.queue.then(() => this.learnPatiently(server, asked, texts));
    asked.queue = queue;
    return queue.then(() => {
      const isLast = asked.queue === queue && this.servers.get(server.name) === asked;
      if (isLast && asked.failuresInRow === 0) this.servers.delete(server.name);
    });
  }

  /** Servers that failed last: they may be asked again after a while, or never. */
  get failing(): number {
    return this.servers.size;
  }

  /** Forgets how servers answered that are not among `names`; what they were asked goes on. */
  forgetOthers(names: ReadonlySet<string>): void {
    for (const name of this.servers.keys()) if (!names.has(name)) this.servers.delete(name);
  }

  private async learnPatiently(
    server: TokenServer,
    asked: Asked,
    texts: readonly (readonly number[])[],
  ): Promise<void> {
    for (;;) {
      const pauseMs = asked.retryAtMs - this.now();
      if (pauseMs > 0 && asked.failuresInRow >= PATIENT_FAILURES) return;
      if (pauseMs > 0) await this.sleep(pauseMs);
      const outcome = await this.learnNow(server, texts);
      if (outcome === "learnt") {
        asked.failuresInRow = 0;
        return;
      }
      asked.failuresInRow = outcome === "refused" ? PATIENT_FAILURES : asked.failuresInRow + 1;
      asked.retryAtMs = this.now() + RETRY_AFTER_MS;
      if (asked.failuresInRow >= PATIENT_FAILURES) return;
    }
  }

  /** @returns "failed": it may answer another time; "refused": it will not */
  private async learnNow(
    server: TokenServer,
    texts: readonly (readonly number[])[],
  ): Promise<"learnt" | "failed" | "refused"> {
    try {
      await this.begin(server);
      let requests = 0;
      const unknown = this.unknownOf(texts);
      for (let from = 0; from < unknown.length && requests < REQUESTS_MAX; from += BATCH_IDS) {
        await this.learnTexts(server, unknown.slice(from, from + BATCH_IDS));
        requests += 2;
      }
      for (const tokens of texts) {
        if (requests >= REQUESTS_MAX) return "learnt";
        if (this.form === null || this.unknownOf([tokens]).length === 0) continue;
        const text = await server.detokenize(tokens.filter((id) => id < MEDIA_TOKEN));
        await this.learnPieces(server, text);
        requests += 2;
      }
      const fragments = this.unknownOf(texts);
      for (let from = 0; from < fragments.length && requests < REQUESTS_MAX; from += BATCH_FRAGMENTS) {
        await this.learnFragments(server, fragments.slice(from, from + BATCH_FRAGMENTS));
        requests += 1;
      }
      this.reported = "";
      return "learnt";
    } catch (error) {
      this.failures += 1;
      const code = codeOf(error);
      if (code !== this.reported)
        this.log.warn({ code }, `token bytes cannot be learnt: ${messageOf(error)}`);
      this.reported = code;
      const isPassing =
        error instanceof ConnectionError ||
        error instanceof TimeoutError ||
        (error instanceof StatusError && error.status >= 500);
      return isPassing ? "failed" : "refused";
    }
  }

  private unknownOf(texts: readonly (readonly number[])[]): number[] {
    const unknown = new Set<number>();
    for (const tokens of texts) {
      for (const id of tokens) {
        if (id < MEDIA_TOKEN && this.table.lengthOf(id) === UNKNOWN_TOKEN) unknown.add(id);
      }
    }
    return [...unknown];
  }

  /** Finds the separator's tokens, and how pieces are written. */
  private async begin(server: TokenServer): Promise<void> {
    if (this.separator !== null) return;
    const { tokens } = await server.tokenize(SEPARATOR);
    if (!(await server.detokenize(tokens)).endsWith(SEPARATOR)) {
      throw new TokenizerError(server.name, "/detokenize", "the text that was given to /tokenize");
    }
    const { pieces } = await server.tokenize("a b");
    const text = pieces.join("");
    this.form = text.includes("Ġ") ? "byte-level" : text.includes("▁") ? "metaspace" : null;
    const spaced = await server.tokenize(SPACED);
    this.losesSpaces = !(await server.detokenize(spaced.tokens)).endsWith(SPACED);
    const bytes = await this.byteTokens(server);
    if (bytes !== null) this.completions = completionsOf(bytes);
    this.separator = tokens;
  }

  private async byteTokens(server: TokenServer): Promise<ByteTokens | null> {
    if (this.form === null) return askByteTokens((text) => server.tokenize(text));
    const { tokens, pieces } = await this.learnPieces(server, `${RARE_CHARACTERS} ${REPLACEMENTS}`);
    return byteTokensOf(tokens, pieces, this.form);
  }

  private async learnTexts(server: TokenServer, ids: readonly number[]): Promise<void> {
    const separator = this.separator!;
    const joined = [...separator, ...ids.flatMap((id) => [id, ...separator])];
    const parts = (await server.detokenize(joined)).split(SEPARATOR);
    // An unlikely neighbour made other text of a separator: these ids are learnt another way.
    if (parts.length !== ids.length + 2) return;
    const doubtful: string[] = [];
    ids.forEach((id, index) => {
      const text = parts[index + 1]!;
      if (text.includes(REPLACEMENT)) return;
      if (this.losesSpaces && LOSES_SPACES_BEFORE.test(text)) doubtful.push(text);
      else this.table.add(id, Buffer.from(text));
    });
    // Between letters, as they stand and with the space that they may have lost.
    if (doubtful.length > 0 && this.form !== null)
      await this.learnPieces(server, `${doubtful.map((text) => `a${text}a ${text}`).join("")}a`);
  }

  /** Of characters that are cut where the texts begin or end, and so not whole in any of them. */
  private async learnFragments(server: TokenServer, ids: readonly number[]): Promise<void> {
    if (this.completions.length === 0) return;
    const separator = this.separator!;
    const ways = ids.flatMap((id) => this.completions.map((way) => ({ id, way })));
    const joined = ways.flatMap(({ id, way }) => [...way.before, id, ...way.after, ...separator]);
    const parts = (await server.detokenize([...separator, ...joined])).split(SEPARATOR);
    if (parts.length !== ways.length + 2) return;
    ways.forEach(({ id, way }, index) => {
      const bytes = completedBytes(parts[index + 1]!, way);
      const isDoubtful = this.losesSpaces && LOSES_SPACES_BEFORE.test(parts[index + 1]!);
      if (bytes !== null && !isDoubtful) this.table.add(id, bytes);
    });
  }

  private async learnPieces(server: TokenServer, text: string): Promise<Tokenized> {
    const told = await server.tokenize(text);
    told.tokens.forEach((id, index) => {
      // Not every replica of a pool spells tokens: one that does not says nothing of their bytes.
      const piece = told.pieces[index];
      const bytes = this.form === null || piece === undefined ? null : pieceBytes(piece, this.form);
      if (bytes !== null) this.table.add(id, bytes);
    });
    return told;
  }
}
