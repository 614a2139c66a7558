export function layNativePackages(root: string, folder: string): Promise<string[]>;
