// A prefill leg that the filter sends itself: its http_call checked, and the answer of a prefill replica to it.
import type { HttpCall } from "../host/http-call.ts";
import { failureBody } from "./answer-events.ts";
import { FilterError } from "./errors.ts";
import { replicaAddress, replicaOf } from "./snapshot-endpoints.ts";
import type { PrefillOutcome } from "./types.ts";

const DESTINATION_HEADER = "x-gateway-destination-endpoint";
const SIDE_CHANNEL_PORT = 5600;

/** What a prefill leg's body must say, beside the client's own fields. */
interface LegBody {
  readonly kv_transfer_params?: { readonly do_remote_decode?: unknown };
  readonly max_tokens?: unknown;
  readonly stream?: unknown;
  readonly stream_options?: unknown;
}

/** One call, from the filter to a replica and back. */
export class PrefillCall {
  /** Replica that is asked. */
  readonly replica: number;
  /** The parameters that a success gives, as text; "" before. */
  params = "";

  /**
   * @param index of the request @param attempt calls of the request before this one
   * @throws FilterError for a call that a prefill replica would answer wrongly
   */
  constructor(
    private readonly call: HttpCall,
    private readonly index: number,
    private readonly attempt: number,
    replicas: number,
  ) {
    const address = call.headers.get(DESTINATION_HEADER) ?? "";
    this.replica = replicaOf(address, replicas);
    if (this.replica < 0) throw new FilterError(`sent a prefill leg to "${address}", which is no replica`);
    const body = JSON.parse(call.body.toString()) as LegBody;
    this.check("kv_transfer_params.do_remote_decode", body.kv_transfer_params?.do_remote_decode, true);
    this.check("max_tokens", body.max_tokens, 1);
    this.check("stream", body.stream, false);
    this.check("stream_options", body.stream_options, undefined);
  }

  /** Answers as vLLM with NixlConnector does, or as Envoy for a replica that is not there. */
  end(outcome: PrefillOutcome, nowMs: number): void {
    const { failure } = outcome;
    if (failure === "connect") this.call.refuse();
    else if (failure === "died") this.call.reset();
    else if (failure === "too-long") this.call.respond(400, JSON_TYPE, failureBody(400));
    else {
      this.params = this.paramsText(outcome.promptTokens, nowMs);
      this.call.respond(200, JSON_TYPE, this.replyText(outcome));
    }
  }

  private check(field: string, value: unknown, expected: unknown): void {
    if (value === expected) return;
    const request = `prefill leg of request ${this.index}`;
    throw new FilterError(
      `sent ${JSON.stringify(value)} as ${field} in the ${request}, not ${String(expected)}`,
    );
  }

  // Block ids beyond 2^53 and a long fraction: what does not survive a parser of numbers shows.
  private paramsText(promptTokens: number, nowMs: number): string {
    const [host] = replicaAddress(this.replica).split(":");
    const seconds = Math.floor(nowMs / 1000);
    return (
      `{"do_remote_prefill":true,"do_remote_decode":false,"remote_block_ids":[[9223372036854775807,${this.index}]],` +
      `"remote_engine_id":"engine-${this.replica}","remote_request_id":"${this.index}/${this.attempt}",` +
      `"remote_host":"${host}","remote_port":${SIDE_CHANNEL_PORT},"tp_size":1,"remote_num_tokens":${promptTokens},` +
      `"remote_blocks_expiry_time":${seconds}.12345678901234567,"transfer_mode":"read"}`
    );
  }

  private replyText({ promptTokens, cachedTokens }: PrefillOutcome): string {
    const usage = {
      prompt_tokens: promptTokens,
      total_tokens: promptTokens + 1,
      completion_tokens: 1,
      prompt_tokens_details: { cached_tokens: cachedTokens },
    };
    const choice = { index: 0, message: { role: "assistant", content: "word" }, finish_reason: "length" };
    const head = { id: `chatcmpl-${this.index}`, object: "chat.completion", choices: [choice], usage };
    return `${JSON.stringify(head).slice(0, -1)},"kv_transfer_params":${this.params}}`;
  }
}

const JSON_TYPE = { "content-type": "application/json" };
