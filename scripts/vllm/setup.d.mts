// Types of setup.mjs, for the tests.
export const VLLM_VERSION: string;
export function vllmHome(env?: NodeJS.ProcessEnv): string;
export function setupVllm(env?: NodeJS.ProcessEnv): Promise<string>;
export function machineFault(machine: {
  readonly platform: string;
  readonly arch: string;
  readonly flags: string;
  readonly freeBytes: number;
}): string | undefined;
