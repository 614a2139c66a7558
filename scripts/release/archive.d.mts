// Types of archive.mjs, which is plain JavaScript because the release script runs it.

export declare class ArchiveEntryError extends Error {
  readonly code: "ERR_ARCHIVE_ENTRY";
  constructor(name: string, why: string);
}
export declare function tar(
  entries: readonly { readonly name: string; readonly bytes: Uint8Array }[],
): Buffer;
export declare function gzip(bytes: Uint8Array): Buffer;
