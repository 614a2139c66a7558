// Small metrics pages of each engine, as its server writes them: the lines that matter and some that must not
// confuse.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The whole page of a vLLM 0.32.0 with requests running and waiting, 52 KB. */
export const VLLM_032 = readFileSync(
  fileURLToPath(new URL("../fixtures/metrics/vllm-0.32.txt", import.meta.url)),
);

/** Two data-parallel engines of one vLLM on one page. */
export const VLLM_TWO_ENGINES = Buffer.from(`# HELP process_start_time_seconds Start time of the process.
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.7e+09
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 5.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting{engine="1",model_name="m"} 7.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 1000.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total{engine="0",model_name="m"} 2.0
vllm:num_preemptions_total{engine="1",model_name="m"} 1.0
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 100.0
vllm:prompt_tokens_total{engine="1",model_name="m"} 200.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 10.0
vllm:generation_tokens_total{engine="1",model_name="m"} 20.0
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="1000"} 1.0
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="1",num_gpu_blocks="500"} 1.0
`);

/** vLLM before 0.10: another name of the KV usage, no engine label. */
export const VLLM_OLD = Buffer.from(`# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="m"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{model_name="m"} 0.0
# TYPE vllm:gpu_cache_usage_perc gauge
vllm:gpu_cache_usage_perc{model_name="m"} 0.4
`);

/** LoRA label sets: the newest is not the last. */
export const VLLM_LORA = Buffer.from(`vllm:num_requests_running{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters=""} 1.795240500e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a,c",waiting_lora_adapters="b"} 1.795240585994428e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a",waiting_lora_adapters="z"} 1.795240510e+09
`);

/** A vLLM in sleep mode. */
export const VLLM_ASLEEP = Buffer.from(`vllm:num_requests_running{engine="0",model_name="m"} 0.0
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="awake"} 0.0
vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="weights_offloaded"} 1.0
`);

/** Two data-parallel schedulers of SGLang, each shown by two tensor-parallel ranks. */
export const SGLANG = Buffer.from(`# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{dp_rank="0",model_name="q",tp_rank="0"} 4.0
sglang:num_running_reqs{dp_rank="0",model_name="q",tp_rank="1"} 4.0
sglang:num_running_reqs{dp_rank="1",model_name="q",tp_rank="2"} 6.0
sglang:num_running_reqs{dp_rank="1",model_name="q",tp_rank="3"} 6.0
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{dp_rank="0",model_name="q",tp_rank="0"} 1.0
sglang:num_queue_reqs{dp_rank="1",model_name="q",tp_rank="2"} 2.0
# TYPE sglang:token_usage gauge
sglang:token_usage{dp_rank="0",model_name="q",tp_rank="0"} 0.2
sglang:token_usage{dp_rank="1",model_name="q",tp_rank="2"} 0.6
# TYPE sglang:cache_config_info gauge
sglang:cache_config_info{dp_rank="0",num_pages="3000",page_size="64"} 1.0
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{model_name="q"} 8128902.0
# TYPE sglang:generation_tokens_total counter
sglang:generation_tokens_total{model_name="q"} 7557572.0
`);

/** SGLang with the cache size as gauges. */
export const SGLANG_GAUGES = Buffer.from(`sglang:num_running_reqs{model_name="q",tp_rank="0"} 0.0
sglang:num_queue_reqs{model_name="q",tp_rank="0"} 0.0
sglang:token_usage{model_name="q",tp_rank="0"} 0.0
sglang:page_size{model_name="q",tp_rank="0"} 1.0
sglang:num_pages{model_name="q",tp_rank="0"} 200000.0
`);

export const TRTLLM_SERVE = Buffer.from(`# TYPE trtllm_num_requests_waiting gauge
trtllm_num_requests_waiting{engine_type="trtllm",model_name="q"} 3.0
# TYPE trtllm_num_requests_running gauge
trtllm_num_requests_running{engine_type="trtllm",model_name="q"} 8.0
# TYPE trtllm_kv_cache_utilization gauge
trtllm_kv_cache_utilization{engine_type="trtllm",model_name="q"} 0.31
trtllm_kv_cache_max_blocks{engine_type="trtllm",model_name="q"} 19958.0
trtllm_kv_cache_tokens_per_block{engine_type="trtllm",model_name="q"} 32.0
trtllm_request_success_total{finished_reason="stop",model_name="q"} 150.0
trtllm_request_success_total{finished_reason="length",model_name="q"} 4.0
`);

export const TRITON_TRTLLM = Buffer.from(`# TYPE nv_inference_request_success counter
nv_inference_request_success{model="tensorrt_llm",version="1"} 12
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="tensorrt_llm",version="1"} 99
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.5
nv_gpu_utilization{gpu_uuid="GPU-b"} 0.7
nv_gpu_memory_total_bytes{gpu_uuid="GPU-a"} 100000
nv_gpu_memory_total_bytes{gpu_uuid="GPU-b"} 100000
nv_gpu_memory_used_bytes{gpu_uuid="GPU-a"} 40000
nv_gpu_memory_used_bytes{gpu_uuid="GPU-b"} 60000
# TYPE nv_trt_llm_request_metrics gauge
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 2
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="context",version="1"} 1
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 5
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 512
# TYPE nv_trt_llm_kv_cache_block_metrics gauge
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.125
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="tensorrt_llm",version="1"} 64
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="tensorrt_llm",version="1"} 1
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="tensorrt_llm",version="1"} 6239
`);

export const TRITON = Buffer.from(`nv_inference_request_success{model="resnet",version="1"} 40
nv_inference_exec_count{model="resnet",version="1"} 123456
nv_inference_pending_request_count{model="resnet",version="1"} 6
nv_inference_pending_request_count{model="bert",version="2"} 1
`);

/** A DCGM exporter's page: a node with three GPUs, of two pods in two namespaces and one free. */
export const DCGM = Buffer.from(`# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0", UUID="GPU-0",device="nvidia0",modelName="H100",Hostname="node-1",container="v",namespace="prod",pod="vllm-0"} 92
DCGM_FI_DEV_GPU_UTIL{gpu="1", UUID="GPU-1",device="nvidia1",modelName="H100",Hostname="node-1",container="v",namespace="prod",pod="vllm-0"} 50
DCGM_FI_DEV_GPU_UTIL{gpu="2", UUID="GPU-2",device="nvidia2",modelName="H100",Hostname="node-1",container="v",namespace="test",pod="vllm-0"} 7
DCGM_FI_DEV_GPU_UTIL{gpu="3", UUID="GPU-3",device="nvidia3",modelName="H100",Hostname="node-1",container="",namespace="",pod=""} 9223372036854775794
# HELP DCGM_FI_DEV_FB_FREE Framebuffer memory free (in MiB).
# TYPE DCGM_FI_DEV_FB_FREE gauge
DCGM_FI_DEV_FB_FREE{gpu="0", UUID="GPU-0",device="nvidia0",modelName="H100",Hostname="node-1",container="v",namespace="prod",pod="vllm-0"} 20000
DCGM_FI_DEV_FB_FREE{gpu="1", UUID="GPU-1",device="nvidia1",modelName="H100",Hostname="node-1",container="v",namespace="prod",pod="vllm-0"} 60000
# HELP DCGM_FI_DEV_FB_USED Framebuffer memory used (in MiB).
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{gpu="0", UUID="GPU-0",device="nvidia0",modelName="H100",Hostname="node-1",container="v",namespace="prod",pod="vllm-0"} 60000
DCGM_FI_DEV_FB_USED{gpu="1", UUID="GPU-1",device="nvidia1",modelName="H100",Hostname="node-1",container="v",namespace="prod",pod="vllm-0"} 20000
`);

/** `page` with every sample of one metric set to `value`. */
export function withValue(page: Buffer, metric: string, value: number): Buffer {
  const pattern = new RegExp(`^(${metric}(?:\\{.*\\})?) .*$`, "gm");
  return Buffer.from(page.toString("utf8").replace(pattern, `$1 ${value}`));
}
