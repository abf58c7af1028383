// Runs, in the process that builds the command line, what its users run most: V8 then knows which functions a start
// calls, and its code cache holds those and no others. A start of a VM needs no VMM for that, only something that
// answers as one (train-vmm.mjs), a file that begins like a kernel, and an image of one file.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import fsPromises, { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const IMAGE = "firectl/train:1";

/** Runs --version, list and a whole run of a cached image. @throws Error when one of them fails. */
export async function trainStarts(runCli, { root }) {
  const home = await mkdtemp(path.join(tmpdir(), "firectl-build-"));
  const undo = pretendKvm();
  try {
    const env = await makeHome(home);
    // By another process, so that nothing of it is in the cache.
    for (const argv of [
      ["import", "-q", path.join(home, "image"), IMAGE],
      ["kernel", "add", path.join(home, "vmlinuz")],
    ]) {
      execFileSync(process.execPath, [path.join(root, "bin/firectl"), ...argv], { env, stdio: "pipe" });
    }
    for (const argv of [
      ["--version"],
      ["list"],
      ["run", "--rm", "--vmm", "firecracker", IMAGE, "true"],
      ["run", "--vmm", "firecracker", IMAGE, "true"],
      // Now there is a record to be checked.
      ["list"],
    ]) {
      const status = await runCli(argv, ioFor(env));
      if (status !== 0) throw new Error(`firectl ${argv.join(" ")} ended with ${status}`);
    }
  } finally {
    undo();
    await rm(home, { recursive: true, force: true });
  }
}

async function makeHome(home) {
  const vmm = path.join(home, "firecracker");
  const script = fileURLToPath(new URL("./train-vmm.mjs", import.meta.url));
  await writeFile(vmm, `#!/bin/sh\nexec '${process.execPath}' '${script}' "$@"\n`);
  await chmod(vmm, 0o755);
  await writeFile(path.join(home, "vmlinuz"), kernelHead());
  await mkdir(path.join(home, "image"));
  await writeFile(path.join(home, "image", "true"), "#!/bin/true\n");
  return {
    HOME: home,
    PATH: process.env.PATH,
    // Not by XDG's variables: root's directories do not go by them.
    FIRECTL_CONFIG_DIR: path.join(home, "config"),
    FIRECTL_DATA_DIR: path.join(home, "data"),
    FIRECTL_RUNTIME_DIR: path.join(home, "run"),
    FIRECTL_FIRECRACKER: vmm,
    // It is copied into an initramfs that nothing boots.
    FIRECTL_AGENT: script,
  };
}

/** As much of a kernel as is looked at before it is booted. */
function kernelHead() {
  const head = Buffer.alloc(4096);
  if (process.arch === "x64") {
    // https://docs.kernel.org/arch/x86/boot.html
    head.writeUInt16LE(0xaa55, 0x1fe);
    head.write("HdrS", 0x202, "latin1");
    head.writeUInt16LE(0x200, 0x20e);
    head.write("6.1.0-train ", 0x400, "latin1");
  } else {
    // https://docs.kernel.org/arch/arm64/booting.html
    head.write("ARM\x64", 56, "latin1");
    head.write("Linux version 6.1.0-train ", 0x400, "latin1");
  }
  return head;
}

/** Whoever builds needs no KVM: what looks for it finds a device that can be opened as well. */
function pretendKvm() {
  const { access, open } = fsPromises;
  const { accessSync, openSync } = fs;
  const instead = (file) => (file === "/dev/kvm" ? "/dev/null" : file);
  fsPromises.access = (file, ...rest) => access(instead(file), ...rest);
  fsPromises.open = (file, ...rest) => open(instead(file), ...rest);
  fs.accessSync = (file, ...rest) => accessSync(instead(file), ...rest);
  fs.openSync = (file, ...rest) => openSync(instead(file), ...rest);
  return () => {
    Object.assign(fsPromises, { access, open });
    Object.assign(fs, { accessSync, openSync });
  };
}

function ioFor(env) {
  const sink = { write() {}, async stream() {}, isTerminal: false, columns: 80 };
  return {
    stdout: sink,
    stderr: { ...sink, write: (text) => process.stderr.write(text) },
    stdin: [],
    env,
    onSignal: () => () => {},
    onIdle: () => () => {},
    exitNow() {},
    close() {},
  };
}
