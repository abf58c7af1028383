import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { fakeVmlinux } from "../kernel/kernel.test-helper.ts";
import type { Context } from "./context.ts";
import { ensureDefaultKernel } from "./kernels.ts";
import { openContext } from "./open-context.ts";

const kernelBytes = fakeVmlinux("6.1.99-pinned");

let server: Server;
let kernelUrl: string;
let requests = 0;
beforeAll(async () => {
  server = createServer((_request, response) => {
    requests++;
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

function contextWith(settings: Record<string, string>): Promise<Context> {
  const home = temporaryDirectory();
  const config = path.join(home, "config");
  mkdirSync(config);
  writeFileSync(path.join(config, "config.json"), JSON.stringify(settings));
  return openContext({
    env: {
      FIRECTL_CONFIG_DIR: config,
      FIRECTL_DATA_DIR: path.join(home, "data"),
      FIRECTL_RUNTIME_DIR: path.join(home, "run"),
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

test("a download with another checksum is refused, not replaced by something else", async () => {
  const context = await contextWith({ kernelUrl, kernelSha256: "0".repeat(64) });
  await expect(ensureDefaultKernel(context)).rejects.toMatchObject({ code: "DIGEST_MISMATCH" });
  expect(await (await context.kernels()).list()).toEqual([]);
});
