import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { configurationCalls } from "../../dist/firecracker/configuration.js";
import { packCpio } from "../../dist/kernel/cpio.js";
import { run } from "./programs.mjs";

/** What the init of lib/bare-init.c writes first. */
const WORD = "BARE-INIT";

/**
 * A machine of Firecracker alone: the kernel and command line that firectl uses, its memory and one processor, an
 * initramfs with an init that does nothing, no disk, no vsock. Returns how to run it once: milliseconds from the spawn
 * of Firecracker to the first word of its init, and to its end.
 */
export function bareVm({ firecracker, kernelPath, memoryMib, compiler, directory, env }) {
  const init = path.join(directory, "bare-init");
  const source = fileURLToPath(new URL("./bare-init.c", import.meta.url));
  run(compiler, [
    "-Os",
    "-static",
    "-nostdlib",
    "-ffreestanding",
    "-fno-stack-protector",
    "-o",
    init,
    source,
  ]);
  const initrd = path.join(directory, "bare.cpio");
  writeFileSync(
    initrd,
    packCpio([
      { kind: "directory", name: "dev", mode: 0o755 },
      { kind: "character device", name: "dev/console", mode: 0o600, major: 5, minor: 1 },
      { kind: "file", name: "init", mode: 0o755, contents: readFileSync(init) },
    ]),
  );
  const configuration = path.join(directory, "bare.json");
  writeFileSync(
    configuration,
    JSON.stringify({
      "boot-source": {
        kernel_image_path: kernelPath,
        initrd_path: initrd,
        boot_args: firectlsBootArguments(),
      },
      "machine-config": { vcpu_count: 1, mem_size_mib: memoryMib },
      drives: [],
    }),
  );
  return () => start(firecracker, ["--no-api", "--config-file", configuration], env);
}

/** The command line that firectl gives a kernel, without the words for its agent. */
function firectlsBootArguments() {
  const machine = {
    vcpuCount: 1,
    memoryMib: 128,
    bootSource: { kernelImagePath: "", initrdPath: "", kernelArguments: [] },
    drives: [],
    vsock: { guestCid: 3, socketPath: "" },
  };
  const host = { architecture: "x64", version: [1, 17, 0] };
  return configurationCalls(machine, host).find((call) => call.path === "/boot-source").body.boot_args;
}

function start(command, args, env) {
  return new Promise((resolve, reject) => {
    const startedAt = performance.now();
    const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    let initMs;
    child.stdout.on("data", (chunk) => {
      said += chunk;
      if (initMs === undefined && said.includes(WORD)) initMs = performance.now() - startedAt;
    });
    child.stderr.on("data", (chunk) => {
      said += chunk;
    });
    child.on("error", reject);
    child.on("close", (status) => {
      if (initMs !== undefined) resolve({ initMs, endMs: performance.now() - startedAt });
      else
        reject(new Error(`${command} ended with ${status}, and its init said nothing: ${said.slice(-500)}`));
    });
  });
}
