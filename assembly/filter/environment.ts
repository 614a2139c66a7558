// Settings from the process's environment: the control listener's bearer token, which must not stand in the
// plugin configuration because Envoy's /config_dump shows that.
import { environmentRead, environmentVariable } from "../abi/wasi";
import { ascii, textBytes } from "../text/text";

const T_TOKEN = ascii("EPP_CONTROL_TOKEN=");
/** Bytes of a token; a longer one counts as set and matches nothing. */
const TOKEN_BYTES_MAX: u32 = 1024;
let token: usize = 0;
let tokenBytes: u32 = 0;

/** Reads the environment; at vm_start. */
export function environmentLoad(): void {
  const count = environmentRead();
  for (let i: u32 = 0; i < count; i++) {
    const variable = environmentVariable(i);
    if (memory.compare(variable, T_TOKEN, textBytes(T_TOKEN)) != 0) continue;
    token = variable + textBytes(T_TOKEN);
    tokenBytes = 0;
    while (tokenBytes < TOKEN_BYTES_MAX && load<u8>(token + tokenBytes) != 0) tokenBytes++;
  }
}

/** The token that control requests must carry; controlTokenBytes() 0 = none is asked for. */
export function controlToken(): usize {
  return token;
}
export function controlTokenBytes(): u32 {
  return tokenBytes;
}
