// The bytes that a vocabulary's pieces stand for.

/**
 * "byte-level": one character a byte, in GPT-2's alphabet. "metaspace": text with ▁ for a space, and <0xXX> for a
 * single byte (SentencePiece).
 */
export type PieceForm = "byte-level" | "metaspace";

const METASPACE = /▁/g;
const BYTE_PIECE = /^<0x([0-9A-Fa-f]{2})>$/;

/** Code point of the alphabet → byte. */
const BYTE_OF_CODE = gpt2Alphabet();

/** The bytes of a piece; null = it has a character that is none of the alphabet's. */
export function pieceBytes(piece: string, form: PieceForm): Uint8Array | null {
  if (form === "metaspace") {
    const byte = BYTE_PIECE.exec(piece);
    return byte === null
      ? Buffer.from(piece.replace(METASPACE, " "))
      : Uint8Array.of(Number.parseInt(byte[1]!, 16));
  }
  const bytes = new Uint8Array(piece.length);
  for (let i = 0; i < piece.length; i++) {
    const byte = BYTE_OF_CODE.get(piece.charCodeAt(i));
    if (byte === undefined) return null;
    bytes[i] = byte;
  }
  return bytes;
}

/**
 * GPT-2's bytes_to_unicode (openai/gpt-2, src/encoder.py): printable Latin-1 stands for itself, the other bytes, in
 * order, for U+0100 and what follows.
 */
function gpt2Alphabet(): ReadonlyMap<number, number> {
  const codes = new Map<number, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const isPrintable =
      (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
    codes.set(isPrintable ? byte : next++, byte);
  }
  return codes;
}
