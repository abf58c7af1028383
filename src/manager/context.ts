import type { Images } from "../image/images.ts";
import type { Kernels } from "../kernel/kernel-store.ts";
import type { Directories } from "../state/directories.ts";
import type { VmsFile } from "../state/vms-file.ts";
import type { Settings } from "./settings.ts";

/** What every operation works with. Heavy parts are loaded when first asked for. */
export interface Context {
  readonly env: NodeJS.ProcessEnv;
  readonly settings: Settings;
  readonly directories: Directories;
  readonly vms: VmsFile;
  /** The command that runs this firectl again: `[node, …/bin/firectl]`. */
  readonly selfCommand: readonly string[];
  /** The guest's PID 1, a static binary. */
  readonly agentPath: string;
  /** The server of a directory that a guest has live, a static binary too. */
  readonly shareServerPath: string;
  /** What connects a VM's interface to passt(1), likewise. */
  readonly networkLauncherPath: string;
  images(): Promise<Images>;
  kernels(): Promise<Kernels>;
}
