import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  familiarReference,
  locationName,
  normalisedReference,
  parseImageLocation,
  parsePlainName,
  parseReference,
} from "./reference.ts";

const HEX = "a".repeat(64);

describe("parseReference", () => {
  it.each([
    ["debian", "docker.io/library/debian:latest", "debian:latest"],
    ["debian:12", "docker.io/library/debian:12", "debian:12"],
    ["index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest"],
    ["docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"],
    ["user/app", "docker.io/user/app:latest", "user/app:latest"],
    ["localhost/app", "localhost/app:latest", "localhost/app:latest"],
    ["localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"],
    ["127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest", "127.0.0.1:5000/a/b/c:latest"],
    ["[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"],
    ["UPPER/app", "UPPER/app:latest", "UPPER/app:latest"],
    ["quay.io/a__b/c-d--e.f:V1.2-x_y", "quay.io/a__b/c-d--e.f:V1.2-x_y", "quay.io/a__b/c-d--e.f:V1.2-x_y"],
    [`debian@sha256:${HEX}`, `docker.io/library/debian@sha256:${HEX}`, `debian@sha256:${HEX}`],
    [`debian:12@sha256:${HEX}`, `docker.io/library/debian:12@sha256:${HEX}`, `debian:12@sha256:${HEX}`],
    [`a:${"t".repeat(128)}`, `docker.io/library/a:${"t".repeat(128)}`, `a:${"t".repeat(128)}`],
    ["a".repeat(237), `docker.io/library/${"a".repeat(237)}:latest`, `${"a".repeat(237)}:latest`],
  ])("reads %s", (text, normalised, familiar) => {
    const reference = parseReference(text);
    expect(normalisedReference(reference)).toBe(normalised);
    expect(familiarReference(reference)).toBe(familiar);
    expect(parseReference(normalised)).toEqual(reference);
    expect(parseReference(familiar)).toEqual(reference);
  });

  it.each([
    [""],
    ["/debian"],
    ["debian/"],
    ["a//b"],
    ["Debian"],
    ["../etc/passwd"],
    ["a/../b"],
    ["debian:"],
    ["debian:-x"],
    ["debian: x"],
    ["debian:12:13"],
    ["debian@"],
    ["debian@sha256:abc"],
    [`debian@sha512:${"a".repeat(128)}`],
    [`debian@sha256:${HEX.toUpperCase()}`],
    [HEX],
    ["-debian"],
    ["a_-b"],
    ["a___b"],
    ["ex ample.com/a"],
    ["example.com:port/a"],
    ["example.com:123456/a"],
    ["-example.com/a"],
    ["user:pass@example.com/a"],
    ["https://example.com/a"],
    ["a\0b"],
    ["a\nb"],
    ["dëbian"],
    [`a:${"t".repeat(129)}`],
    ["a".repeat(238)],
    ["a".repeat(1_000_000)],
    [`a${"-".repeat(1000)}`],
  ])("refuses %j", (text) => {
    expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: "INVALID_REFERENCE" }));
  });

  it("escapes what it quotes", () => {
    expect(() => parseReference("a\u001b[31m")).toThrow(/"a\\u001b\[31m" is not an image reference/);
  });
});

describe("parseImageLocation", () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(path.join(tmpdir(), "firectl-reference-"));
    await writeFile(path.join(directory, "a:b.tar"), "");
    await writeFile(path.join(directory, "a:b.tar:v1"), "");
    await mkdir(path.join(directory, "layout"));
  });
  afterAll(() => rm(directory, { recursive: true }));

  it.each([
    ["debian", "store", "docker.io/library/debian:latest"],
    ["docker://debian", "registry", "docker.io/library/debian:latest"],
    ["docker:debian", "docker", "docker:docker.io/library/debian:latest"],
    ["docker-daemon:debian", "docker", "docker:docker.io/library/debian:latest"],
    // A registry called "docker" without a port does not exist; one with a port is a registry.
    ["docker:5000/debian", "docker", "docker:docker.io/5000/debian:latest"],
    ["localhost:5000/oci", "store", "localhost:5000/oci:latest"],
    ["rootfs:/srv/root", "rootfs", "rootfs:/srv/root"],
    ["rootfs:/srv/../a:b.tar", "rootfs", "rootfs:/a:b.tar"],
    ["rootfs:-", "rootfs", "rootfs:-"],
    // Images may be called like a transport.
    ["oci", "store", "docker.io/library/oci:latest"],
    ["rootfs/app:1", "store", "docker.io/rootfs/app:1"],
  ])("%s is in %s", (text, transport, name) => {
    const location = parseImageLocation(text);
    expect(location.transport).toBe(transport);
    expect(locationName(location)).toBe(name);
    expect(locationName(parseImageLocation(name))).toBe(name);
  });

  it.each([
    ["oci:dir", "dir", undefined, undefined],
    ["oci:/a b/c:1.0", "/a b/c", "1.0", undefined],
    ["oci:dir:docker.io/library/x:tag", "dir", "docker.io/library/x:tag", undefined],
    [`oci:dir@sha256:${HEX}`, "dir", undefined, `sha256:${HEX}`],
    [`oci-archive:a.tar:v1@sha256:${HEX}`, "a.tar", "v1", `sha256:${HEX}`],
    ["oci-archive:dir@sha256:1", "dir@sha256", "1", undefined],
    ["oci-archive:-", "-", undefined, undefined],
  ])("%s is a layout", (text, file, tag, digest) => {
    const transport = text.slice(0, text.indexOf(":"));
    expect(parseImageLocation(text)).toEqual({ transport, path: file, tag, digest });
  });

  it.each([
    ["docker-archive:a.tar", "a.tar", undefined, undefined],
    ["docker-archive:a.tar:app", "a.tar", "app", "docker.io/library/app:latest"],
    [
      "docker-archive:./a.tar:localhost:5000/app:1",
      "./a.tar",
      "localhost:5000/app:1",
      "localhost:5000/app:1",
    ],
    ["docker-archive:a.tar:@0", "a.tar", "@0", 0],
    ["docker-archive:a.tar:@17", "a.tar", "@17", 17],
  ])("%s is an archive of docker save", (text, file, suffix, image) => {
    const location = parseImageLocation(text);
    expect(location).toMatchObject({ transport: "docker-archive", path: file });
    if (location.transport !== "docker-archive") return;
    expect(location.suffix).toBe(suffix);
    expect(typeof location.image === "object" ? normalisedReference(location.image) : location.image).toBe(
      image,
    );
    expect(locationName(location)).toBe(
      `docker-archive:${path.resolve(file)}${suffix === undefined ? "" : `:${suffix}`}`,
    );
  });

  it("finds files whose names have colons, the longest that is there", () => {
    const pathIn = (text: string): unknown => {
      const location = parseImageLocation(text);
      return "path" in location ? path.relative(directory, location.path) : undefined;
    };
    expect(pathIn(`oci-archive:${directory}/a:b.tar`)).toBe("a:b.tar");
    expect(pathIn(`docker-archive:${directory}/a:b.tar:app:2`)).toBe("a:b.tar");
    expect(pathIn(`docker-archive:${directory}/a:b.tar:v1`)).toBe("a:b.tar:v1");
    expect(pathIn(`oci:${directory}/layout:a:b`)).toBe("layout");
    expect(pathIn(`oci:${directory}/none:a:b`)).toBe("none");
  });

  it.each([
    ["oci:", "no directory is named after oci:"],
    ["oci::tag", "no directory is named after oci:"],
    ["oci:dir:", "the tag after the directory is empty"],
    ["oci-archive:", "no file is named after oci-archive:"],
    ["oci-archive:a.tar:", "the tag after the file is empty"],
    ["docker-archive:", "no file is named"],
    ["docker-archive:a.tar:", "name after the file is empty"],
    ["docker-archive:a.tar:UPPER", "must be in lower case"],
    ["docker-archive:a.tar:@x", "is not the number of an image"],
    ["docker-archive:a.tar:@-1", "is not the number of an image"],
    ["rootfs:", "no directory or file is named after rootfs:"],
    ["rootfs:a\0b", "it has a NUL byte"],
    ["oci:a\0b", "it has a NUL byte"],
    [`oci:${"a".repeat(4097)}`, "it is longer than 4096"],
    [`docker-archive:${"a".repeat(4097)}`, "it is longer than 4096"],
    ["docker:", "it is empty"],
    ["docker-daemon:", "it is empty"],
    ["docker://", "it is empty"],
    ["dir:/srv/image", 'there is no transport "dir:"'],
    ["docker-archve:./a.tar", 'there is no transport "docker-archve:"'],
    ["./image.tar", "a file or directory needs rootfs:, oci:, oci-archive: or docker-archive: before it"],
    ["/srv/image", "a file or directory needs"],
    ["../image", "a file or directory needs"],
  ])("refuses %#", (text, why) => {
    expect(() => parseImageLocation(text)).toThrow(
      expect.objectContaining({ code: "INVALID_REFERENCE", message: expect.stringContaining(why) }),
    );
  });
});

describe("parsePlainName", () => {
  it("takes names that images can be given, in full", () => {
    expect(parsePlainName("app")).toBe("docker.io/library/app:latest");
    expect(parsePlainName("localhost:5000/app:1")).toBe("localhost:5000/app:1");
    for (const text of [`app@sha256:${HEX}`, "docker:app", "oci:dir", "rootfs:-"]) {
      expect(() => parsePlainName(text)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    }
  });
});
