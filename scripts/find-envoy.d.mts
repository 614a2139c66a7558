// Types of find-envoy.mjs, which is plain JavaScript because setup runs it before anything is installed.

export declare const ENVOY_NEWEST: string;
export declare const ENVOY_OLDEST: string;
export declare const ENVOY_MINIMUM: readonly [number, number];

export declare class EnvoyUnusableError extends Error {
  readonly code: "ERR_ENVOY_UNUSABLE";
  readonly path: string;
  readonly reason: string;
  constructor(path: string, reason: string);
}

export interface FoundEnvoy {
  readonly path: string;
  readonly version: string;
  readonly source: "ENVOY_PATH" | "PATH" | "venv";
  readonly skipped: readonly string[];
}
export interface NoEnvoy {
  readonly path?: undefined;
  readonly skipped: readonly string[];
}

export declare function envoyVersion(path: string): Promise<[number, number, number]>;
export declare function checkEnvoy(path: string): Promise<string>;
export declare function venvFolder(root: string, version: string): string;
export declare function venvEnvoy(root: string, version: string): Promise<string | undefined>;
export declare function findEnvoy(root: string, env?: NodeJS.ProcessEnv): Promise<FoundEnvoy | NoEnvoy>;
