import { createHash } from "node:crypto";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { fakeVmlinux } from "./kernel.test-helper.ts";
import { Kernels } from "./kernel-store.ts";
import { downloadKernel } from "./sources.ts";

const kernelBytes = fakeVmlinux("6.1.99-test");
const sha256 = createHash("sha256").update(kernelBytes).digest("hex");

let server: Server;
let origin: string;
beforeAll(async () => {
  server = createServer((request, response) => {
    if (request.url === "/vmlinux") response.end(kernelBytes);
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  origin = typeof address === "object" && address !== null ? `http://127.0.0.1:${address.port}` : "";
});
afterAll(() => {
  server.close();
});

describe("downloadKernel", () => {
  let kernels: Kernels;
  let workDirectory: string;
  beforeEach(() => {
    const home = temporaryDirectory();
    workDirectory = path.join(home, "work");
    kernels = new Kernels({ root: path.join(home, "kernels"), cacheDir: path.join(home, "cache") });
  });

  test("installs a kernel that has the pinned checksum, and clears what a killed one left", async () => {
    mkdirSync(workDirectory);
    writeFileSync(path.join(workDirectory, "kernel"), "half a kernel");
    const kernel = await downloadKernel(kernels, { url: `${origin}/vmlinux`, sha256, workDirectory });
    expect(kernel).toMatchObject({ name: "6.1.99-test", format: "elf", modules: [] });
    expect((await kernels.default())?.name).toBe("6.1.99-test");
    expect(existsSync(workDirectory)).toBe(false);
  });

  test("takes the checksum in upper case", async () => {
    const options = { url: `${origin}/vmlinux`, sha256: sha256.toUpperCase(), name: "mine", workDirectory };
    expect((await downloadKernel(kernels, options)).name).toBe("mine");
  });

  test.each<[string, string, string, string]>([
    ["another checksum", "/vmlinux", "0".repeat(64), "DIGEST_MISMATCH"],
    ["no checksum", "/vmlinux", "abc", "INVALID_ARGUMENT"],
    ["nothing there", "/nowhere", sha256, "REGISTRY_UNREACHABLE"],
  ])("refuses %s and installs nothing", async (_what, file, pinned, code) => {
    const options = { url: `${origin}${file}`, sha256: pinned, workDirectory };
    await expect(downloadKernel(kernels, options)).rejects.toMatchObject({ code });
    expect(await kernels.list()).toEqual([]);
    expect(existsSync(workDirectory)).toBe(false);
  });
});
