// Types of test.mjs, which is plain JavaScript because it runs before anything is installed.

export interface Counts {
  readonly passed: number;
  readonly failed: number;
}
export interface VitestReport {
  readonly numPassedTests: number;
  readonly numTotalTests: number;
  readonly testResults: readonly { readonly status: string; readonly assertionResults: readonly unknown[] }[];
}
export declare const NAMES: readonly string[];
export declare const VITEST_PROJECTS: readonly string[];
export declare function aspectCounts(code: number | null, output: string): Counts;
export declare function vitestCounts(code: number | null, report: VitestReport | undefined): Counts;
