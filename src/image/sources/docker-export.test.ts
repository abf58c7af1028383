import { describe, expect, it } from "vitest";
import { chunksOf, collect, noise, type TarEntry, tar, tarHeader } from "../image.test-helper.ts";
import { withoutInjectedFiles } from "./docker-export.ts";

function filter(bytes: Uint8Array, chunk = 10_000): Promise<Buffer> {
  return collect(withoutInjectedFiles(chunksOf(bytes, chunk)));
}

const pax = (records: Readonly<Record<string, string>>): TarEntry => {
  const text = Object.entries(records).map(([name, value]) => {
    const body = ` ${name}=${value}\n`;
    const digits = String(body.length + 1).length;
    const length = body.length + digits + (String(body.length + digits).length > digits ? 1 : 0);
    return `${length}${body}`;
  });
  return { name: "PaxHeaders/x", type: "x", content: Buffer.from(text.join(""), "latin1") };
};

const kept: readonly TarEntry[] = [
  { name: "etc/", type: "5" },
  { name: "etc/hosts.allow" },
  { name: "etc/passwd", content: noise(3000, "passwd") },
  { name: "usr/etc/hosts" },
  { name: "dev/", type: "5" },
  { name: "etc/mtab", type: "2", linkName: "/proc/mounts" },
  { name: "data", content: noise(512, "512") },
  { name: "b", content: noise(513, "513") },
];

describe("withoutInjectedFiles", () => {
  it.each([1, 511, 512, 513, 1_000_000])("leaves out what Docker injects, in chunks of %i", async (chunk) => {
    const injected = [".dockerenv", "dev/console", "etc/hosts", "etc/hostname", "etc/resolv.conf"];
    const all = kept.flatMap((entry, index) => [entry, { name: injected[index % injected.length] ?? "" }]);
    expect((await filter(tar(all), chunk)).equals(tar(kept))).toBe(true);
    expect(
      (await filter(tar([{ name: "./etc/hosts" }, { name: "/.dockerenv" }]), chunk)).equals(tar([])),
    ).toBe(true);
  });

  it("keeps those names when they are not empty files", async () => {
    const own = tar([
      { name: "etc/hosts", content: Buffer.from("127.0.0.1 localhost") },
      { name: "etc/resolv.conf", type: "2", linkName: "/run/resolv.conf" },
      { name: ".dockerenv", type: "5" },
    ]);
    expect((await filter(own)).equals(own)).toBe(true);
  });

  it("drops extended headers with their entry, and keeps them with others", async () => {
    const xattr = { "SCHILY.xattr.user.x": "\x80\xff\0y" };
    const entries: TarEntry[] = [
      pax({ path: "etc/hosts" }),
      { name: "short" },
      pax(xattr),
      { name: "etc/hostname" },
    ];
    const others: TarEntry[] = [
      pax(xattr),
      { name: "with-xattr", content: noise(10, "x") },
      { name: "././@LongLink", type: "L", content: Buffer.from(`${"long/".repeat(40)}etc/hosts\0`) },
      { name: "etc/hosts" },
      { name: "global", type: "g", content: pax({ comment: "c" }).content ?? Buffer.alloc(0) },
      { name: "last" },
    ];
    expect((await filter(tar([...entries, ...others]))).equals(tar(others))).toBe(true);
  });

  it("takes sizes from where they are written", async () => {
    const content = noise(1000, "c");
    const base256 = tarHeader({ name: "big" }, 0);
    base256.fill(0, 124, 136);
    base256[124] = 0x80;
    base256.writeUInt16BE(1000, 134);
    fixChecksum(base256);
    const paxHeader = tar([pax({ size: "1000" })]).subarray(0, -1024);
    const body = Buffer.concat([content, Buffer.alloc(24)]);
    const archive = Buffer.concat([
      base256,
      body,
      paxHeader,
      tarHeader({ name: "etc/hosts" }, 0),
      body,
      tar([]),
    ]);
    expect((await filter(archive)).equals(archive)).toBe(true);
  });

  it.each<[string, Buffer, RegExp]>([
    ["empty", Buffer.alloc(0), /ends early/],
    ["cut in a header", tar(kept).subarray(0, 700), /ends early/],
    ["cut in a file", tar(kept).subarray(0, 512 * 5), /ends early/],
    ["without its end", tar(kept).subarray(0, -1024), /ends early/],
    ["no tar", noise(2000, "n"), /checksum|octal/],
    ["with a size that is no number", broken((header) => header.write("9999999", 124)), /octal/],
    ["with a size beyond all", broken((header) => header.fill(0xff, 124, 136)), /out of range/],
    [
      "with a huge extended header",
      broken((header) => header.write("77777777777", 124), "x"),
      /extended header/,
    ],
    [
      "with a PAX record of no length",
      tar([{ name: "x", type: "x", content: Buffer.from("x path=y\n") }]),
      /no length/,
    ],
    ["with a PAX size that is none", tar([pax({ size: "-5" }), { name: "x" }]), /PAX size/],
  ])("refuses one that is %s", async (_name, archive, message) => {
    await expect(filter(archive)).rejects.toMatchObject({ code: "DOCKER_FAILED", message });
  });
});

function broken(change: (header: Buffer) => void, type = "0"): Buffer {
  const header = tarHeader({ name: "x", type }, 0);
  change(header);
  fixChecksum(header);
  return Buffer.concat([header, tar([])]);
}

function fixChecksum(header: Buffer): void {
  header.fill(" ", 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
}
