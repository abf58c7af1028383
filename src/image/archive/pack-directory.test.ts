import { closeSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { openWithoutLinks } from "../../host/open-without-links.ts";
import { temporaryDirectory } from "../../host/temporary-directory.test-helper.ts";
import { plainTar } from "./pack-directory.ts";

test("a directory that is open is packed, whatever is at its path by now", async () => {
  const root = temporaryDirectory();
  for (const name of ["data", "outside"]) mkdirSync(path.join(root, name));
  writeFileSync(path.join(root, "data/file"), "public");
  writeFileSync(path.join(root, "outside/file"), "secret");
  const directory = path.join(root, "data");
  const descriptor = openWithoutLinks(directory, "cannot pack it");
  renameSync(directory, path.join(root, "moved"));
  symlinkSync("outside", directory);
  const options = { env: process.env, signal: undefined, exclude: root, onNotice: () => {} };
  const tars: string[] = [];
  for (const given of [{ descriptor }, { descriptor, name: "file" }, {}]) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of plainTar(directory, { ...options, ...given })) chunks.push(chunk);
    tars.push(Buffer.concat(chunks).toString("latin1"));
  }
  closeSync(descriptor);
  expect(tars.map((tar) => /public|secret/.exec(tar)?.[0])).toEqual(["public", "public", "secret"]);
});
