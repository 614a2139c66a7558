// Types of wasm-checks.mjs, which is plain JavaScript because the build runs it.

export declare function forbiddenCode(wat: string): string[];
