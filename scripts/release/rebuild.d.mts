// Types of rebuild.mjs, which is plain JavaScript because the release script runs it.

export declare class NotReproducibleError extends Error {
  readonly code: "ERR_NOT_REPRODUCIBLE";
  constructor(first: string, second: string);
}
export declare function rebuildWasm(root: string): Promise<Buffer>;
