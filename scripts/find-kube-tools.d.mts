// Types of find-kube-tools.mjs, which is plain JavaScript because setup runs it before anything is installed.

export declare const KUBE_TOOLS_PACKAGE: string;
export declare const KUBE_TOOLS_VERSION: string;
export declare const KUBE_TOOLS: readonly ["helm", "kubectl"];

/** What decides which tools can run: a part of `process`. */
export interface Machine {
  readonly platform: string;
  readonly arch: string;
}
export declare function kubeToolsFolder(root: string): string;
export declare function kubeToolsInstallable(machine?: Machine): boolean;
export declare function findKubeTool(
  root: string,
  name: string,
  machine?: Machine & { readonly env: NodeJS.ProcessEnv },
): Promise<string | undefined>;
