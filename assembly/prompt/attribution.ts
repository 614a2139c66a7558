// Claude Code's attribution line: a first line of the system text whose hash is another one in every request.
//
// vLLM leaves it out of what it computes (vllm/entrypoints/anthropic/serving.py; vllm/renderers/chat_utils.py,
// _strip_claude_code_billing_header): as a part of the keys it would keep every request from finding the one before.
const PREFIX = "x-anthropic-billing-header";
const LINE_END: u8 = 10;

/** Whether a text whose first piece is `bytes` bytes at `ptr` begins with the line. */
export function isAttributed(ptr: usize, bytes: u32): bool {
  if (bytes < <u32>PREFIX.length || load<u8>(ptr) != 0x78) return false;
  const chars = changetype<usize>(PREFIX);
  for (let i: usize = 0; i < <usize>PREFIX.length; i++) {
    if (<u16>load<u8>(ptr + i) != load<u16>(chars + (i << 1))) return false;
  }
  return true;
}

/**
 * Bytes of the line at the beginning of the piece, its end included; 0 = there is none, or it goes on in the next piece.
 * `isLast`: the text ends with the piece.
 */
export function attributionBytes(ptr: usize, bytes: u32, isLast: bool): u32 {
  if (!isAttributed(ptr, bytes)) return 0;
  for (let i = <u32>PREFIX.length; i < bytes; i++) if (load<u8>(ptr + i) == LINE_END) return i + 1;
  return isLast ? bytes : 0;
}
