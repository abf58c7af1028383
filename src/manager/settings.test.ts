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

  const LOOK = "docs/configuration.md has all fields of config.json";
  const JSON_HINT = "names and texts stand in double quotes, commas between fields and none after the last";
  test.each([
    ["{ foo: 1}", /config\.json, line 1 is not JSON: Expected property name or '}'$/, JSON_HINT],
    ['{\n  "cpus": 1,\n}\n', /, line 3 is not JSON: Expected double-quoted property name$/, JSON_HINT],
    ['{\n  "cpus": 1\n', /, line 2 is not JSON: (Unexpected end|Expected ',' or '}')/, JSON_HINT],
    ['{"cpus": two}', /config\.json is not JSON: Unexpected token/, JSON_HINT],
    ["[]", /config\.json holds \[\], expected an object$/, `write {"memoryMib": 1024}; ${LOOK}`],
    ["null", /config\.json holds null, expected an object$/, `write {"memoryMib": 1024}; ${LOOK}`],
    ['{"memorymib": 64}', /config\.json: there is no field "memorymib"$/, "did you mean memoryMib?"],
    [
      '{"constructor": 1}',
      /there is no field "constructor"$/,
      /^the fields are dataDirectory, .*maxImageEntries$/,
    ],
    [
      '{"memoryMib": 63, "cpus": "2"}',
      /config\.json: cpus is "2", expected a whole number from 1 to 32; memoryMib is 63, expected a whole number of at least 64$/,
      LOOK,
    ],
    ['{"cpus": 33}', /cpus is 33, expected/, LOOK],
    ['{"imageDevice": "disk"}', /imageDevice is "disk", expected "auto", "block" or "pmem"$/, LOOK],
    [
      '{"registryMirrors": {"docker.io": "https://mirror.lan"}}',
      /registryMirrors is {"docker\.io":"https:\/\/mirror\.lan"}, expected lists of URLs by registry/,
      LOOK,
    ],
    ['{"qemu": "qemu"}', /qemu is "qemu", expected an absolute path$/, LOOK],
    [
      '{"kernelUrl": "https://k.example/v"}',
      /kernelUrl and kernelSha256 go together$/,
      "add kernelSha256, or leave both out",
    ],
    ['{"kernelUrl": "file:///v"}', /kernelUrl is "file:\/\/\/v", expected an http or https URL$/, LOOK],
    [`{"detachKeys": [${"1,".repeat(99)}1]}`, /detachKeys is \[(1,){39}1…, expected keys/, LOOK],
  ])("refuses %s", async (text, message, hint) => {
    await expect(settingsFrom(text)).rejects.toMatchObject({
      code: "INVALID_CONFIGURATION",
      message: expect.stringMatching(message),
      hint: hint instanceof RegExp ? expect.stringMatching(hint) : hint,
    });
  });
});
