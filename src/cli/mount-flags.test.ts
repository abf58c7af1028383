import path from "node:path";
import { describe, expect, test } from "vitest";
import { parseMountFlag, parseTmpfsFlag, parseVolumeFlag, parseVolumesFrom } from "./mount-flags.ts";

const code = (parse: () => unknown): string => {
  try {
    parse();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return "accepted";
};

describe("-v", () => {
  test.each([
    ["/data", { type: "volume", destination: "/data" }],
    ["db:/data", { type: "volume", name: "db", destination: "/data", readOnly: false, copy: true }],
    ["db:/data:ro", { type: "volume", name: "db", destination: "/data", readOnly: true, copy: true }],
    ["db:/data:nocopy,rw", { type: "volume", name: "db", readOnly: false, copy: false }],
    ["db:/data:z,rprivate,cached", { type: "volume", name: "db", readOnly: false, copy: true }],
    ["/host:/data:ro", { type: "bind", source: "/host", destination: "/data", readOnly: true }],
    ["./dir:/data:ro", { type: "bind", source: path.resolve("dir"), destination: "/data" }],
    ["..:/data:ro", { type: "bind", source: path.resolve("..") }],
    [".hidden:/data", { type: "volume", name: ".hidden" }],
  ])("%s", (text, expected) => {
    expect(parseVolumeFlag(text, "-v")).toMatchObject(expected);
  });

  test.each([
    ["", "invalid volume specification: ''"],
    [":/data", "invalid volume specification: ':/data'"],
    ["db:", "invalid volume specification: 'db:'"],
    ["/data:ro", "invalid volume specification: '/data:ro'"],
    ["a:/b:ro:x", "invalid volume specification: 'a:/b:ro:x'"],
    ["a:/b:rx", "invalid mode: rx"],
    ["a:/b:ro,rw", "invalid mode: ro,rw"],
    ["a:/b:constructor", "invalid mode: constructor"],
    ["a:/b:rshared", 'the mode "rshared" needs a kernel that host and guest share'],
  ])("%j is refused", (text, message) => {
    expect(code(() => parseVolumeFlag(text, "-v"))).toContain(message);
  });
});

describe("--mount", () => {
  test.each([
    ["dst=/d", { type: "volume", destination: "/d", readOnly: false, copy: true }],
    ["type=volume,src=db,target=/d,ro", { type: "volume", name: "db", destination: "/d", readOnly: true }],
    ["source=db,destination=/d,volume-nocopy", { type: "volume", name: "db", copy: false }],
    ["src=db,dst=/d,volume-label=a=b,volume-opt=size=1g", { labels: { a: "b" }, sizeBytes: 2 ** 30 }],
    ['type=bind,"src=/a,b",dst=/d,readonly=true', { type: "bind", source: "/a,b", readOnly: true }],
    ["TYPE=tmpfs,dst=/d,tmpfs-size=1m,tmpfs-mode=1770", { options: ["size=1048576", "mode=1770"] }],
  ])("%s", (text, expected) => {
    expect(parseMountFlag(text, "--mount")).toMatchObject(expected);
  });

  test.each([
    ["type=volume", "it needs a target: dst=/path"],
    ["dst", "invalid field 'dst' must be a key=value pair"],
    ["dst=/d,what=1", "unexpected key 'what' in 'what=1'"],
    ["type=tmpfs,dst=/d,volume-nocopy", "cannot mix 'volume-*' options with mount type 'tmpfs'"],
    ["type=volume,dst=/d,tmpfs-size=1m", "cannot mix 'tmpfs-*' options with mount type 'volume'"],
    ["type=tmpfs,dst=/d,src=x", "a tmpfs has no source"],
    ["type=tmpfs,dst=/d,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"],
    ["type=bind,dst=/d", "a bind mount needs a source"],
    ["type=image,dst=/d", 'the mount type "image" is not volume, bind or tmpfs'],
    ["dst=/d,volume-driver=nfs", 'there is no volume driver "nfs"'],
    ["dst=/d,volume-opt=type=nfs", 'the volume option "type=nfs" is not supported'],
    ['"dst=/d', "is not a line of CSV"],
    ["dst=/d,readonly=maybe", '"maybe" is not true or false'],
  ])("%s is refused", (text, message) => {
    expect(code(() => parseMountFlag(text, "--mount"))).toContain(message);
  });
});

test("--tmpfs and --volumes-from", () => {
  expect(parseTmpfsFlag("/run", "--tmpfs")).toEqual({ type: "tmpfs", destination: "/run", options: [] });
  expect(parseTmpfsFlag("/run:size=1m,exec", "--tmpfs")).toMatchObject({ options: ["size=1m", "exec"] });
  expect(parseVolumesFrom("web", "--volumes-from")).toEqual({ vm: "web", readOnly: false });
  expect(parseVolumesFrom("web:ro", "--volumes-from")).toEqual({ vm: "web", readOnly: true });
  expect(code(() => parseVolumesFrom("web:x", "--volumes-from"))).toContain("invalid mode: x");
  expect(code(() => parseVolumesFrom(":ro", "--volumes-from"))).toContain("is not VM[:ro|rw]");
});
