// Types of oci-image.mjs, which is plain JavaScript because the release script runs it.

export type Variant = "compat" | "oci";
export interface Blob {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly bytes: Buffer;
}
export interface Image {
  readonly manifest: Blob;
  readonly blobs: readonly Blob[];
}
export interface About {
  readonly version: string;
  readonly source?: string | undefined;
}

export declare const MEDIA: Readonly<
  Record<"index" | "manifest" | "imageConfig" | "layer" | "empty" | "wasmConfig" | "wasmLayer", string>
>;
export declare const VARIANTS: readonly Variant[];
export declare class NoProxyWasmError extends Error {
  readonly code: "ERR_NO_PROXY_WASM";
  constructor(exports: readonly string[]);
}
export declare function digestOf(bytes: Uint8Array): string;
export declare function wasmImage(variant: Variant, wasm: Uint8Array, about: About): Image;
export declare function writeLayout(folder: string, image: Image, tag: string): Promise<void>;
