// Types of registry.mjs, which is plain JavaScript because the release script runs it.
import type { Image } from "./oci-image.mjs";

export interface Credentials {
  readonly user: string;
  readonly password: string;
}
export declare class ImageReferenceError extends Error {
  readonly code: "ERR_IMAGE_REFERENCE";
  constructor(text: string);
}
export declare class RegistryError extends Error {
  readonly code: "ERR_REGISTRY";
  readonly status: number;
  constructor(step: string, status: number, body: string);
}
export declare function parseReference(text: string): { base: string; name: string; tag: string };
export declare function pushImage(
  reference: string,
  image: Image,
  credentials?: Credentials,
): Promise<string>;
