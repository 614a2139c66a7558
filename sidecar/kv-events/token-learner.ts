// Learns the bytes of token ids from a model server, where no tokenizer file is at hand.
import { codeOf, messageOf, TokenizerError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { UNKNOWN_TOKEN, TokenTable } from "./token-table.ts";
import { pieceBytes, type PieceForm } from "./token-pieces.ts";
import type { TokenServer } from "./token-server.ts";

/** Ids of one request. */
const BATCH_IDS = 512;
/** Requests about the tokens of one batch; what is not known then stays unknown. */
const REQUESTS_MAX = 64;
/** A server that could not be asked is not asked again for this long; its tokens stay unknown meanwhile. */
const RETRY_AFTER_MS = 1_000;
/** Stands between tokens, so that each one's text can be told from its neighbours'. No token contains it. */
const SEPARATOR = "<:|:>";
const REPLACEMENT = "\uFFFD";
/** A text that a server gives back changed if its decoding takes spaces away. */
const SPACED = "a . b , c ? d";
/**
 * Characters before which such a decoding takes spaces away: clean_up_tokenization of transformers 4, which Llama 3
 * asks for (clean_up_tokenization_spaces). Transformers 5 leaves byte-level tokenizers alone.
 */
const LOSES_SPACES_BEFORE = /[.?!,']/;

/**
 * Fills a table by two requests of vLLM's API. `/detokenize` of many ids with a separator between them gives each
 * one's text, which is its bytes unless the token is a part of a character. Those are learnt from the tokens around
 * them: their text, sent to `/tokenize` with `return_token_strs`, comes back as pieces of the vocabulary. So are tokens
 * whose text may have lost a space.
 */
export class TokenLearner {
  readonly table = new TokenTable({ dropsFirstSpace: false });
  /** Requests that failed since start. */
  failures = 0;
  private separator: readonly number[] | null = null;
  private form: PieceForm | null = null;
  private losesSpaces = false;
  private retryAtMs = 0;
  private reported = "";
  /** One batch at a time: the next one's tokens may be known by then. */
  private queue: Promise<void> = Promise.resolve();

  constructor(
    private readonly log: Logger,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /**
   * Learns what is not known of some texts' tokens. Never rejects; what cannot be learnt stays unknown.
   * @param texts tokens in the order in which they stand in a prompt
   */
  learn(server: TokenServer, texts: readonly (readonly number[])[]): Promise<void> {
    if (this.unknownOf(texts).length === 0) return Promise.resolve();
    this.queue = this.queue.then(() => this.learnNow(server, texts));
    return this.queue;
  }

  private async learnNow(server: TokenServer, texts: readonly (readonly number[])[]): Promise<void> {
    if (this.now() < this.retryAtMs) return;
    try {
      await this.begin(server);
      let requests = 0;
      const unknown = this.unknownOf(texts);
      for (let from = 0; from < unknown.length && requests < REQUESTS_MAX; from += BATCH_IDS) {
        await this.learnTexts(server, unknown.slice(from, from + BATCH_IDS));
        requests += 2;
      }
      for (const tokens of texts) {
        if (requests >= REQUESTS_MAX) return;
        if (this.unknownOf([tokens]).length === 0) continue;
        await this.learnPieces(server, await server.detokenize(tokens));
        requests += 2;
      }
      this.reported = "";
    } catch (error) {
      this.failures += 1;
      this.retryAtMs = this.now() + RETRY_AFTER_MS;
      const code = codeOf(error);
      if (code !== this.reported)
        this.log.warn({ code }, `token bytes cannot be learnt: ${messageOf(error)}`);
      this.reported = code;
    }
  }

  private unknownOf(texts: readonly (readonly number[])[]): number[] {
    const unknown = new Set<number>();
    for (const tokens of texts) {
      for (const id of tokens) if (this.table.lengthOf(id) === UNKNOWN_TOKEN) unknown.add(id);
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
    this.separator = tokens;
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
    if (doubtful.length > 0)
      await this.learnPieces(server, `${doubtful.map((text) => `a${text}a ${text}`).join("")}a`);
  }

  private async learnPieces(server: TokenServer, text: string): Promise<void> {
    if (this.form === null) return;
    const told = await server.tokenize(text);
    told.tokens.forEach((id, index) => {
      const bytes = pieceBytes(told.pieces[index] ?? "", this.form!);
      if (bytes !== null) this.table.add(id, bytes);
    });
  }
}
