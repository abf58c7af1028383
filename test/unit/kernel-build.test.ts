import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../../src/host/temporary-directory.test-helper.ts";
import { buildKernelInto, planBuild } from "../../src/kernel/build-kernel.ts";
import { readBuildOutput } from "../../src/kernel/build-output.ts";

const SCRIPT = path.resolve(import.meta.dirname, "../../kernel/build.sh");
const TOOLS = ["make", "gcc", "ld", "flex", "bison", "bc", "perl", "xz"];
const missing = [
  ...TOOLS.filter((tool) => spawnSync("which", [tool]).status !== 0),
  ...(existsSync("/usr/include/gelf.h") ? [] : ["libelf-dev"]),
  ...(process.arch === "x64" ? [] : ["x86_64"]),
];

/**
 * A tree that answers as the kernel's does to the two calls of the script, in no time: `allnoconfig` takes the
 * wishes over, but for the symbols in the file `drop`; `vmlinux` links a program that holds a banner.
 */
const MAKEFILE = String.raw`
allnoconfig:
	sed -E 's/^(CONFIG_[A-Za-z0-9_]+)=n$$/# \1 is not set/' $(KCONFIG_ALLCONFIG) | grep -vwFf drop > $(O)/.config
vmlinux:
	@echo "  CC      $(KBUILD_BUILD_USER)@$(KBUILD_BUILD_HOST) $(USER)"
	if [ -e wait ]; then touch $(O)/compiling; sleep 600; fi
	if [ -e fail ]; then echo "init/main.c:1: error: no"; exit 1; fi
	mkdir -p $(O)/include/config
	echo 9.9.9-firectl > $(O)/include/config/kernel.release
	echo 'const char b[]="Linux version 9.9.9-firectl (x)"; const char f[]=__FILE__; void _start(void){}' > $(O)/main.c
	gcc $(KCFLAGS) -nostdlib -static -o $(O)/vmlinux $(O)/main.c
`;

interface Archive {
  readonly source: string;
  readonly sha256: string;
}

/** An archive as kernel.org's, with further files at its top. */
function archive(files: Readonly<Record<string, string>> = {}): Archive {
  const directory = temporaryDirectory();
  const tree = path.join(directory, "linux-9.9.9");
  mkdirSync(tree);
  for (const [name, text] of Object.entries({ Makefile: MAKEFILE, drop: "NO_SUCH_SYMBOL\n", ...files })) {
    writeFileSync(path.join(tree, name), text);
  }
  const source = path.join(directory, "linux-9.9.9.tar.xz");
  execFileSync("tar", ["-cJf", source, "-C", directory, "linux-9.9.9"]);
  return { source, sha256: createHash("sha256").update(readFileSync(source)).digest("hex") };
}

/** Where it works when it is not told where. */
const scratch = temporaryDirectory();

function script(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const result = spawnSync(SCRIPT, args, {
    encoding: "utf8",
    env: { ...process.env, TMPDIR: scratch, ...env },
  });
  return { status: result.status, stdout: result.stdout, stderr: result.stderr };
}

function given({ source, sha256 }: Archive): string[] {
  return ["--source", source, "--sha256", sha256];
}

describe("the arguments of kernel/build.sh", () => {
  test.each([
    [["--output"], /--output needs a value/],
    [["--frobnicate"], /unknown argument: --frobnicate/],
    [[], /--output, --cache, --check or --plan is needed/],
    [["--plan", "--arch", "mips"], /--arch mips: expected x86_64 or arm64/],
    [["--plan", "--with", "../../x"], /--with \.\.\/\.\.\/x: expected one of .*nfs/],
    [["--plan", "--jobs", "0"], /--jobs 0: expected a number/],
  ])("%j is refused", (args, message) => {
    expect(script(args)).toMatchObject({ status: 1, stdout: "", stderr: expect.stringMatching(message) });
  });

  test("the packages of missing tools are named, all at once", () => {
    const bin = temporaryDirectory();
    for (const tool of [
      "bash",
      "env",
      "sed",
      "sort",
      "nproc",
      "uname",
      "dirname",
      "grep",
      "cat",
      "make",
      "tar",
    ]) {
      symlinkSync(execFileSync("which", [tool], { encoding: "utf8" }).trim(), path.join(bin, tool));
    }
    const { status, stderr } = script(["--plan"], { PATH: bin });
    expect(status).toBe(3);
    expect(stderr).toMatch(/^kernel: missing: .*\bgcc\b.*\bflex\b.*\bbison\b.*\bbc\b/m);
    expect(stderr).toContain("sudo apt-get install");
  });
});

describe.skipIf(missing.length > 0)(
  `kernel/build.sh${missing.map((tool) => `, without ${tool}`).join("")}`,
  () => {
    let tree: Archive;
    beforeAll(() => {
      tree = archive();
    });

    test("builds a directory that firectl installs, and takes its work away", async () => {
      const home = temporaryDirectory();
      const output = path.join(home, "out");
      const stages: string[] = [];
      const options = { script: SCRIPT, ...tree };
      await buildKernelInto(output, {
        ...options,
        work: path.join(home, "work"),
        onStage: (stage) => stages.push(stage),
      });
      expect(readdirSync(output).sort()).toEqual(["SHA256SUMS", "config", "manifest.json", "vmlinux"]);
      execFileSync("sha256sum", ["-c", "--quiet", "SHA256SUMS"], { cwd: output });
      const plan = await planBuild(options);
      expect(await readBuildOutput(output)).toMatchObject({ name: "firectl-9.9.9", buildKey: plan.key });
      expect(plan.name).toBe("firectl-9.9.9");
      expect((await readBuildOutput(output)).features).toEqual(
        expect.arrayContaining(["ext4", "pmem", "dax", "bpf"]),
      );
      expect(stages).toEqual(expect.arrayContaining(["compiling", "installing"]));
      expect(readdirSync(home)).toEqual(["out"]);
    });

    test("the same bytes come of other directories, users and environments", () => {
      const [one, two] = [temporaryDirectory(), path.join(temporaryDirectory(), "a/longer/way")];
      for (const [home, USER] of [
        [one, "alice"],
        [two, "bob"],
      ] as const) {
        const args = ["--output", path.join(home, "out"), "--work", path.join(home, "work")];
        expect(script([...given(tree), ...args], { USER, KCFLAGS: "-DX", CFLAGS: "-g" }).status).toBe(0);
      }
      const sums = (home: string): string => readFileSync(path.join(home, "out/SHA256SUMS"), "utf8");
      expect(sums(one)).toBe(sums(two));
      expect(readFileSync(path.join(two, "out/vmlinux"), "latin1")).not.toContain("longer/way");
    });

    test("a cache is built into once for each configuration", () => {
      const cache = temporaryDirectory();
      const first = script([...given(tree), "--cache", cache]);
      expect(first).toMatchObject({ status: 0 });
      const again = script([...given(tree), "--cache", cache]);
      expect(again).toMatchObject({ status: 0, stdout: first.stdout, stderr: "" });
      const other = script([...given(tree), "--cache", cache, "--with", "xfs", "--with", "nfs"]);
      const swapped = script([
        ...given(tree),
        "--cache",
        cache,
        "--with",
        "nfs",
        "--with",
        "xfs",
        "--with",
        "nfs",
      ]);
      expect(other.stdout).not.toBe(first.stdout);
      expect(swapped).toMatchObject({ stdout: other.stdout, stderr: "" });
      const manifest = JSON.parse(readFileSync(path.join(other.stdout.trim(), "manifest.json"), "utf8"));
      expect(manifest).toMatchObject({ name: "firectl-9.9.9-nfs-xfs", with: ["nfs", "xfs"] });
    });

    test("an archive with another checksum, or none, is refused", () => {
      const args = ["--output", path.join(temporaryDirectory(), "out"), "--source", tree.source];
      expect(script(args)).toMatchObject({
        status: 1,
        stderr: expect.stringContaining("--source needs --sha256"),
      });
      const wrong = script([...args, "--sha256", "0".repeat(64)]);
      expect(wrong).toMatchObject({
        status: 1,
        stderr: expect.stringContaining(`expected SHA-256 ${"0".repeat(64)}`),
      });
    });

    test("a wish that is dropped and a symbol that is on against one fail, named", () => {
      const dropped = archive({ drop: "CONFIG_OVERLAY_FS\n" });
      expect(script([...given(dropped), "--check"])).toMatchObject({
        status: 1,
        stderr: expect.stringContaining("CONFIG_OVERLAY_FS=y was dropped"),
      });
      const forced = archive({
        Makefile: MAKEFILE.replace("> $(O)/.config", "> $(O)/.config; echo CONFIG_KEXEC=y >> $(O)/.config"),
      });
      expect(script([...given(forced), "--check"])).toMatchObject({
        status: 1,
        stderr: expect.stringContaining("CONFIG_KEXEC is on: something selects it"),
      });
    });

    test("a failure shows the compiler's words and leaves no output", async () => {
      const home = temporaryDirectory();
      const failing = { script: SCRIPT, ...archive({ fail: "" }) };
      const build = buildKernelInto(path.join(home, "out"), { ...failing, work: path.join(home, "work") });
      await expect(build).rejects.toMatchObject({
        code: "PROCESS_FAILED",
        message: expect.stringContaining("init/main.c:1: error: no"),
      });
      expect(readdirSync(home)).toEqual(["work"]);
      expect(readFileSync(path.join(home, "work/build.log"), "utf8")).toContain("firectl@firectl \n");
    });

    test("an abort ends the compilers, and the next build goes on in the same place", async () => {
      const home = temporaryDirectory();
      const work = path.join(home, "work");
      const slow = { script: SCRIPT, ...archive({ wait: "" }), work };
      const controller = new AbortController();
      const build = buildKernelInto(path.join(home, "out"), { ...slow, signal: controller.signal });
      const rejection = expect(build).rejects.toThrow("enough");
      await waitFor(path.join(work, "build-x86_64/compiling"));
      controller.abort(new Error("enough"));
      await rejection;
      expect(processesIn(work)).toEqual([]);
      expect(readdirSync(home)).toEqual(["work"]);
      execFileSync("rm", [path.join(work, "linux/wait")]);
      await buildKernelInto(path.join(home, "out"), slow);
      expect(readdirSync(home)).toEqual(["out"]);
    });

    test.each(["SIGINT", "SIGTERM"] as const)(
      "%s to the script alone ends what it started",
      async (signal) => {
        const work = path.join(temporaryDirectory(), "work");
        const args = [...given(archive({ wait: "" })), "--work", work, "--output", `${work}-out`];
        const child = spawn(SCRIPT, args, { stdio: "ignore" });
        await waitFor(path.join(work, "build-x86_64/compiling"));
        child.kill(signal);
        expect(await statusOf(child)).toBe(signal === "SIGINT" ? 130 : 143);
        expect(processesIn(work)).toEqual([]);
      },
    );
  },
);

function statusOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.once("close", (code) => resolve(code)));
}

async function waitFor(file: string): Promise<void> {
  for (let attempt = 0; attempt < 400 && !existsSync(file); attempt++) await sleep(50);
  expect(existsSync(file), file).toBe(true);
}

/** The processes whose working directory or arguments lie in `directory`. */
function processesIn(directory: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(directory);
    } catch {
      return false;
    }
  });
}

test.each([
  ["nope", /^the parts are apparmor, btf, .*xfs$/],
  ["nsf", /^did you mean --with nfs\? the parts are /],
  ["../optional/nfs", /^the parts are /],
])("an optional part %j is a usage error, without any word of the script", async (part, hint) => {
  await expect(planBuild({ script: SCRIPT, parts: ["nfs", part] })).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: `kernel build: there is no optional part "${part}"`,
    hint: expect.stringMatching(hint),
  });
});
