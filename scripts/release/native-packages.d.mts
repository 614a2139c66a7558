// Types of native-packages.mjs, which is plain JavaScript because the release script runs it.

export declare function layNativePackages(root: string, folder: string): Promise<string[]>;
