// Types of build.mjs, which is plain JavaScript because setup runs it.

export declare const BUNDLES: readonly { readonly entry: string; readonly output: string }[];
export declare class ForbiddenCodeError extends Error {
  readonly code: "ERR_FORBIDDEN_CODE";
  constructor(file: string, faults: readonly string[]);
}
export declare function bundle(
  esbuild: typeof import("esbuild"),
  entry: string,
  output: string,
): Promise<void>;
export declare function buildWasm(): Promise<boolean>;
export declare function buildDebugWasm(): Promise<boolean>;
export declare function buildBundles(): Promise<boolean>;
