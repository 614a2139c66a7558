// The answer to a client whose decode endpoint failed after it had a body with KV parameters: one clear error.
//
// Such a body must not go out twice, so Envoy answers by itself, in words of its own. They are exchanged for the
// error of the API that was asked.
import { BUFFER_RESPONSE_BODY, MAP_RESPONSE_HEADERS } from "../abi/constants";
import { removeHeader, replaceHeader } from "../abi/host";
import { setBufferStart } from "../abi/set-buffer";
import { ascii, textBytes } from "../text/text";
import { H_CONTENT_LENGTH, H_CONTENT_TYPE, V_JSON } from "./names";
import { REFUSED_DECODE_FAILED, countRefusal, refusalPtr, refusalWrite } from "./reply";
import { F_ANSWERED, S_API, setFlag } from "./streams";

const T_DECODE_FAILED = ascii("the endpoint that answers this request failed; the request may be sent again");

let isWritten: bool = false;

/** Response headers that Envoy wrote for such a stream: its body will be exchanged. */
export function answerForDecode(stream: usize): void {
  setFlag(stream, F_ANSWERED);
  isWritten = false;
  removeHeader(MAP_RESPONSE_HEADERS, H_CONTENT_LENGTH);
  replaceHeader(MAP_RESPONSE_HEADERS, H_CONTENT_TYPE, V_JSON, textBytes(V_JSON));
  countRefusal(REFUSED_DECODE_FAILED);
}

/** A chunk of it. Envoy's own answers come in one piece; of further ones nothing is left. */
export function answerBody(stream: usize, size: u32): void {
  const bytes = refusalWrite(
    REFUSED_DECODE_FAILED,
    load<u32>(stream, S_API),
    T_DECODE_FAILED,
    textBytes(T_DECODE_FAILED),
  );
  setBufferStart(BUFFER_RESPONSE_BODY, size, refusalPtr(), isWritten ? 0 : bytes);
  isWritten = true;
}
