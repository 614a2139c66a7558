// Types of npm-package.mjs, which is plain JavaScript because the release script runs it.

export interface Packed {
  readonly filename: string;
  readonly files: readonly string[];
  readonly bundled: readonly string[];
}
export declare function publishedManifest(
  manifest: Readonly<Record<string, unknown>>,
): Record<string, unknown>;
export declare function programsOf(manifest: { readonly bin: Readonly<Record<string, string>> }): string[];
export declare function stagePackage(root: string, folder: string): Promise<void>;
export declare function packPackage(folder: string, destination?: string): Promise<Packed>;
