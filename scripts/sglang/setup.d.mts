// Types of setup.mjs, for the tests.
export const SGLANG_VERSION: string;
export function sglangPaths(home: string): {
  readonly python: string;
  readonly packages: string;
  readonly model: string;
};
export function setupSglang(): Promise<string>;
