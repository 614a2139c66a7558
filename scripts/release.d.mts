// Types of release.mjs, which is plain JavaScript so that it runs before anything is built.
import type { Image, Variant } from "./release/oci-image.mjs";

export interface Release {
  readonly version: string;
  readonly files: readonly { readonly name: string; readonly sha256: string }[];
  readonly images: Readonly<Record<Variant, Image>>;
}
export declare class ForeignFolderError extends Error {
  readonly code: "ERR_FOREIGN_FOLDER";
  constructor(folder: string);
}
export declare function makeRelease(out: string): Promise<Release>;
