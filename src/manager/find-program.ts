import path from "node:path";
import { FirectlError } from "../core/errors.ts";
import { findExecutable } from "../host/files.ts";
import type { Settings } from "./settings.ts";

/** Fields of the settings that name programs. */
export type ProgramField = "firecracker" | "qemu" | "vhostDeviceVsock" | "passt";

/** Where programs are looked for. */
export interface ProgramSearch {
  readonly env: NodeJS.ProcessEnv;
  readonly settings: Pick<Settings, ProgramField>;
  readonly directories: { readonly data: string };
}

/**
 * Looks where the user said, and nowhere else if they did; then on PATH, then in firectl's own data.
 * @throws FirectlError TOOL_MISSING when what the user said is no program.
 */
export async function findProgram(
  search: ProgramSearch,
  name: string,
  told: { readonly variable: string; readonly field: ProgramField },
): Promise<string | undefined> {
  const explicit = search.env[told.variable] || search.settings[told.field];
  if (explicit === undefined) {
    const own = path.join(search.directories.data, "bin");
    return findExecutable(name, `${search.env["PATH"] ?? ""}:${own}`);
  }
  const found = await findExecutable(path.resolve(explicit), "");
  if (found !== undefined) return found;
  const source = search.env[told.variable] ? told.variable : `${told.field} of config.json`;
  throw new FirectlError("TOOL_MISSING", `${source} names ${explicit}, which is not an executable file`, {
    hint: `give it the path of ${name}, or leave it out: firectl then looks on PATH`,
  });
}
