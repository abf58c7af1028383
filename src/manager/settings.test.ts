import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { readSettings } from "./settings.ts";

function settingsFrom(text: string): ReturnType<typeof readSettings> {
  const directory = path.join(temporaryDirectory(), "config");
  mkdirSync(directory);
  writeFileSync(path.join(directory, "config.json"), text);
  return readSettings({ FIRECTL_CONFIG_DIR: directory });
}

describe("readSettings", () => {
  test("is empty without a file", async () => {
    expect(await readSettings({ FIRECTL_CONFIG_DIR: temporaryDirectory() })).toEqual({});
  });

  test("reads what is there", async () => {
    const settings = {
      cpus: 2,
      memoryMib: 64,
      imageDevice: "block",
      kernelUrl: "https://k.example/vmlinux",
      kernelSha256: "a".repeat(64),
      registryMirrors: { "docker.io": ["https://mirror.lan:5000"] },
      registryTokenServers: { "registry.example": ["sso.example.net"] },
    };
    expect(await settingsFrom(JSON.stringify(settings))).toEqual(settings);
  });

  test.each([
    ["{", "config.json: "],
    ['{"memoryMB": 5}', "memoryMB"],
    ['{"memoryMib": 63}', "memoryMib"],
    ['{"cpus": 33}', "cpus"],
    ['{"imageDevice": "disk"}', "imageDevice"],
    ['{"registryMirrors": {"docker.io": "https://mirror.lan"}}', "registryMirrors"],
    ['{"qemu": "qemu"}', "must be an absolute path"],
    ['{"kernelUrl": "https://k.example/v"}', "kernelUrl and kernelSha256 go together"],
    ['{"kernelUrl": "file:///v", "kernelSha256": "00"}', "kernelUrl"],
  ])("refuses %s", async (text, message) => {
    await expect(settingsFrom(text)).rejects.toMatchObject({ code: "INVALID_CONFIGURATION" });
    await expect(settingsFrom(text)).rejects.toThrow(message);
  });
});
