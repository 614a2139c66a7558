// gpu-memory-scorer (ours): endpoints with more free GPU framebuffer score higher.
//
//   score = 1 − framebuffer in use;  never published: as in gpu-utilization-scorer
//
// vLLM takes its share of the framebuffer at start-up and keeps it, so this tells engines of different
// footprint apart and shows other tenants of a shared GPU; KV pressure is kv-cache-utilization-scorer's
// matter. The value is DCGM's DCGM_FI_DEV_FB_USED over used + free. No parameters.
import { COLUMN_GPU_MEMORY } from "../pool/rows";
import { scoreFree } from "./gpu-utilization-scorer";

/** Scores all candidates. */
export function scoreGpuMemory(): void {
  scoreFree(COLUMN_GPU_MEMORY);
}
