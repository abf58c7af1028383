import { describe, expect, it } from "vitest";
import { familiarReference, normalisedReference, parseImageLocation, parseReference } from "./reference.ts";

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
  it.each([
    ["debian", "store"],
    ["docker://debian", "registry"],
    ["docker:debian", "docker"],
    // A registry called "docker" without a port does not exist; one with a port is a registry.
    ["docker:5000/debian", "docker"],
  ])("%s is in %s", (text, transport) => {
    expect(parseImageLocation(text).transport).toBe(transport);
  });

  it.each([
    ["oci:dir", "dir", undefined],
    ["oci:/a b/c:1.0", "/a b/c", "1.0"],
    ["oci:dir:docker.io/library/x:tag", "dir", "docker.io/library/x:tag"],
  ])("%s is a layout", (text, directory, tag) => {
    expect(parseImageLocation(text)).toEqual({ transport: "oci", directory, tag });
  });

  it.each([
    ["oci:"],
    ["oci::tag"],
    ["oci:dir:"],
    ["oci:a\0b"],
    [`oci:${"a".repeat(4097)}`],
    ["docker:"],
    ["docker://"],
  ])("refuses %j", (text) => {
    expect(() => parseImageLocation(text)).toThrow(expect.objectContaining({ code: "INVALID_REFERENCE" }));
  });
});
