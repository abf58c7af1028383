import type { NetworkLauncher } from "./vmm.ts";

/** Where the guest's frames come out of the VMM: a tap device that it opens by its name, or a stream socket. */
export type NetworkEnd = { readonly tap: string } | { readonly socketFd: number };

/** The processes that the launcher leaves beside the VMM, by the names of their pid files in the runtime directory. */
const COMPANIONS: readonly string[] = ["relay", "passt"];

/** How a VMM is started: by the launcher, which becomes the VMM once its network is there, or without a network. */
export function launchedBy(
  launcher: NetworkLauncher | undefined,
  vmm: {
    readonly argv: readonly string[];
    readonly end: NetworkEnd;
    readonly runtimeDirectory: string;
  },
): { readonly argv: readonly string[]; readonly companions: readonly string[] } {
  if (launcher === undefined) return { argv: vmm.argv, companions: [] };
  const end = "tap" in vmm.end ? ["--tap", vmm.end.tap] : ["--socket", String(vmm.end.socketFd)];
  return {
    argv: [
      ...[launcher.program, "--directory", vmm.runtimeDirectory, ...end],
      ...["--", ...launcher.passt, "--", ...vmm.argv],
    ],
    companions: COMPANIONS,
  };
}
