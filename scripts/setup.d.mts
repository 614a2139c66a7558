// Types of setup.mjs, which is plain JavaScript because it runs before anything is installed.

export declare class SetupError extends Error {
  readonly code: "ERR_SETUP";
  constructor(message: string);
}

export declare function setupProject(): Promise<void>;
export declare function setupPackages(): Promise<void>;
export declare function setupBuild(): Promise<void>;
export declare function setupEnvoy(env?: NodeJS.ProcessEnv): Promise<string | undefined>;
export declare function setupTestEnvoys(): Promise<void>;
export declare function setupKubeTools(): Promise<void>;
export declare function packagesInstalled(root: string): Promise<boolean>;
export declare function pipInstall(
  folder: string,
  requirement: string,
  options?: readonly string[],
): Promise<void>;
