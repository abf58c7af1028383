import type { NetworkLauncher } from "./vmm.ts";

/** Where the guest's frames come out of the VMM: a tap device that it opens by its name, or a stream socket. */
export type NetworkEnd = { readonly tap: string } | { readonly socketFd: number };

/** The processes that the launcher leaves beside the VMM, by the names of their pid files in the runtime directory. */
export const NETWORK_COMPANIONS: readonly string[] = ["relay", "passt"];

/** The command that becomes `vmm` once its network is there; `vmm` itself without a network. */
export function withNetwork(
  vmm: readonly string[],
  options: {
    readonly launcher: NetworkLauncher | undefined;
    readonly end: NetworkEnd;
    readonly runtimeDirectory: string;
  },
): readonly string[] {
  const { launcher, end } = options;
  if (launcher === undefined) return vmm;
  return [
    ...[launcher.program, "--directory", options.runtimeDirectory],
    ...("tap" in end ? ["--tap", end.tap] : ["--socket", String(end.socketFd)]),
    ...["--", ...launcher.passt, "--", ...vmm],
  ];
}
