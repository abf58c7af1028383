import { existsSync, readFileSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { BOOT_MODULES, LATER_MODULES, OPTIONAL_MODULES } from "../../src/kernel/modules.ts";
import { findOnPath, MACHINE_FILE, type Machine } from "./support/backends.ts";
import { startDocker } from "./support/docker.ts";
import { IMAGES, KERNEL, Sandbox, SHARED_DATA } from "./support/firectl.ts";
import { run } from "./support/run.ts";

/** Makes the images, installs a kernel, starts a Docker Engine, and finds out what this machine can do. */
export async function setup(): Promise<() => Promise<void>> {
  await mkdir(SHARED_DATA, { recursive: true });
  await run(path.resolve(import.meta.dirname, "../images/make-images.sh"), [IMAGES]);
  await installKernel();
  const docker = await dockerHere();
  const machine: Machine = { ...docker.found, ...(await firecrackerHere()) };
  await writeFile(MACHINE_FILE, JSON.stringify(machine));
  return docker.stop;
}

/**
 * The kernel that FIRECTL_E2E_KERNEL says, else the distribution's, in a place of its own each. Anew when an
 * earlier checkout's firectl kept other modules with it.
 */
async function installKernel(): Promise<void> {
  const stamp = path.join(SHARED_DATA, "kernel-modules");
  const wanted = [...BOOT_MODULES, ...LATER_MODULES, ...OPTIONAL_MODULES].join("\n");
  if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== wanted) {
    await rm(path.join(SHARED_DATA, "kernels"), { recursive: true, force: true });
    await writeFile(stamp, wanted);
  }
  await using sandbox = await Sandbox.create();
  const listed = await sandbox.ok(["kernel", "list", "-q"]);
  if (listed.trim() === "") await sandbox.ok(["kernel", "add", ...(KERNEL === undefined ? [] : [KERNEL])]);
}

async function dockerHere(): Promise<{ found: Machine; stop: () => Promise<void> }> {
  const absent = (reason: string) => ({ found: { dockerMissing: reason }, stop: async () => {} });
  if (findOnPath("dockerd") === undefined) return absent("no dockerd on PATH");
  if (process.getuid?.() !== 0) return absent("dockerd needs root");
  const engine = await startDocker();
  return { found: { dockerHost: engine.host }, stop: async () => engine[Symbol.asyncDispose]() };
}

/** By running a guest, since a /dev/kvm that is there need not work. */
async function firecrackerHere(): Promise<Machine> {
  if (process.env["FIRECTL_E2E_VMM"] === "qemu") return { firecrackerMissing: "only qemu was asked for" };
  if (findOnPath("firecracker") === undefined && !existsSync(process.env["FIRECTL_FIRECRACKER"] ?? "")) {
    return { firecrackerMissing: "no firecracker on PATH" };
  }
  await using sandbox = await Sandbox.create();
  const tried = await sandbox.call(["run", "--rm", "--vmm", "firecracker", `oci:${IMAGES}/scratch`]);
  return tried.status === 0 ? {} : { firecrackerMissing: tried.stderr.split("\n", 1)[0] ?? "it failed" };
}
