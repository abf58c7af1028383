import { createHash } from "node:crypto";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { withFileLock } from "../host/file-lock.ts";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { fakeVmlinux } from "../kernel/kernel.test-helper.ts";
import { sweepKernelBuild } from "./build-kernel.ts";
import type { Context } from "./context.ts";
import { beginVm } from "./images.test-helper.ts";
import { ensureDefaultKernel, removeKernel, sweepKernelWork } from "./kernels.ts";
import { openContext } from "./open-context.ts";
import { changeRecord } from "./records.ts";

const kernelBytes = fakeVmlinux("6.1.99-pinned");

let server: Server;
let kernelUrl: string;
let requests = 0;
/** Called with each download, which it can make wait. */
let whileAsked: () => Promise<void> = async () => {};
beforeAll(async () => {
  server = createServer(async (_request, response) => {
    requests++;
    await whileAsked();
    response.end(kernelBytes);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  kernelUrl =
    typeof address === "object" && address !== null ? `http://127.0.0.1:${address.port}/vmlinux` : "";
});
afterAll(() => {
  server.close();
});

function contextWith(settings: Record<string, string>, home = temporaryDirectory()): Promise<Context> {
  const config = path.join(home, "config");
  mkdirSync(config, { recursive: true });
  writeFileSync(path.join(config, "config.json"), JSON.stringify(settings));
  return openContext({
    env: {
      FIRECTL_CONFIG_DIR: config,
      FIRECTL_DATA_DIR: path.join(home, "data"),
      FIRECTL_RUNTIME_DIR: path.join(temporaryDirectory(), "run"),
    },
  });
}

test("the pinned download is installed once, however many ask at once", async () => {
  const kernelSha256 = createHash("sha256").update(kernelBytes).digest("hex");
  const context = await contextWith({ kernelUrl, kernelSha256 });
  const kernels = await Promise.all([1, 2, 3].map(() => ensureDefaultKernel(context)));
  expect(kernels.map(({ name }) => name)).toEqual(Array(3).fill("6.1.99-pinned"));
  expect(requests).toBe(1);
});

test("what one session installs or builds, another one does not sweep away", async () => {
  const kernelSha256 = createHash("sha256").update(kernelBytes).digest("hex");
  const home = temporaryDirectory();
  const [login, cron] = [
    await contextWith({ kernelUrl, kernelSha256 }, home),
    await contextWith({ kernelUrl, kernelSha256 }, home),
  ];
  expect(cron.directories.runtime).not.toBe(login.directories.runtime);
  const [work, build] = ["kernel-work", "kernel-build"].map((name) => path.join(home, "data", name));
  if (work === undefined || build === undefined) throw new Error("two");
  let isLeft = false;
  whileAsked = async () => {
    mkdirSync(work, { recursive: true });
    await sweepKernelWork(cron);
    isLeft = existsSync(work);
  };
  await ensureDefaultKernel(login).finally(() => {
    whileAsked = async () => {};
  });
  expect(isLeft).toBe(true);

  mkdirSync(work, { recursive: true });
  mkdirSync(build, { recursive: true });
  await withFileLock(path.join(home, "data/locks/kernel-build.lock"), { timeoutMs: 1000 }, () =>
    sweepKernelBuild(cron),
  );
  expect(existsSync(build)).toBe(true);
  for (const sweep of [sweepKernelWork, sweepKernelBuild]) await sweep(cron);
  expect([work, build].filter((directory) => existsSync(directory))).toEqual([]);
});

test("a download with another checksum is refused, not replaced by something else", async () => {
  const context = await contextWith({ kernelUrl, kernelSha256: "0".repeat(64) });
  await expect(ensureDefaultKernel(context)).rejects.toMatchObject({ code: "DIGEST_MISMATCH" });
  expect(await (await context.kernels()).list()).toEqual([]);
});

test("a kernel that VMs boot stays, and the hint removes those that run, too", async () => {
  const kernelSha256 = createHash("sha256").update(kernelBytes).digest("hex");
  const context = await contextWith({ kernelUrl, kernelSha256 });
  const { name, directory, image } = await ensureDefaultKernel(context);
  for (const [vm, state] of [
    ["v1", "running"],
    ["v2", "exited"],
  ] as const) {
    const { id } = await beginVm(context, "img", vm);
    const kernelPath = path.join(directory, image);
    await changeRecord(context.vms, id, (record) => ({ ...record, state, kernelPath }));
  }
  await expect(removeKernel(context, name)).rejects.toMatchObject({
    code: "WRONG_STATE",
    message: `cannot remove kernel ${name}: it is booted by v1, v2`,
    hint: "remove what boots it first: firectl rm -f v1 v2",
  });
});
