import { describe, expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import type { DiskUsageItem, ImageSummary, PruneOptions, PruneReport } from "../manager/api.ts";
import { firectl, testIo } from "./cli.test-helper.ts";

const HOUR_AGO = new Date(Date.now() - 3_700_000).toISOString();

function yearsAgo(years: number): string {
  return new Date(Date.now() - years * 365 * 86_400_000 - 3_700_000).toISOString();
}

function image(fields: Partial<ImageSummary>): ImageSummary {
  return {
    reference: "docker.io/library/nginx:1.27",
    repository: "nginx",
    tag: "1.27",
    dangling: false,
    digest: `sha256:${"ab".repeat(32)}`,
    platform: "linux/amd64",
    createdAt: HOUR_AGO,
    labels: {},
    sizeBytes: 70_000_000,
    diskBytes: 250_000_000,
    usedBy: [],
    ...fields,
  };
}

const NGINX = image({ usedBy: ["x", "y"], labels: { app: "web", tier: "" } });
const STABLE = image({ reference: "docker.io/library/nginx:stable", tag: "stable" });
const TEAM = image({
  reference: "registry.example:5000/team/app:2",
  repository: "registry.example:5000/team/app",
  tag: "2",
  digest: `sha256:${"cd".repeat(32)}`,
  createdAt: yearsAgo(6),
});
const OLD = image({
  reference: `sha256:${"ef".repeat(32)}`,
  tag: undefined,
  dangling: true,
  digest: `sha256:${"ef".repeat(32)}`,
  createdAt: yearsAgo(5),
});
const NAMELESS = image({
  reference: `sha256:${"01".repeat(32)}`,
  repository: undefined,
  tag: undefined,
  dangling: true,
  digest: `sha256:${"01".repeat(32)}`,
  createdAt: undefined,
});
const IMAGES = [NGINX, STABLE, TEAM, OLD, NAMELESS];

describe("images", () => {
  const show = (...argv: string[]) =>
    firectl(["images", ...argv], {
      operations: {
        listImages: async () => IMAGES,
        inspectImage: async (name) => {
          if (name === "gone") throw new FirectlError("IMAGE_NOT_FOUND", "image gone is not here");
          return { Created: name === "old" ? OLD.createdAt : "" };
        },
      },
    });

  test("a table", async () => {
    expect((await show()).stdout).toMatchInlineSnapshot(`
      "REPOSITORY                       TAG      DIGEST         CREATED             SIZE   DISK    VMS
      nginx                            1.27     abababababab   About an hour ago   70MB   250MB   2
      nginx                            stable   abababababab   About an hour ago   70MB   250MB   0
      registry.example:5000/team/app   2        cdcdcdcdcdcd   6 years ago         70MB   250MB   0
      nginx                            <none>   efefefefefef   5 years ago         70MB   250MB   0
      <none>                           <none>   010101010101                       70MB   250MB   0
      "
    `);
  });

  test("what is named by a path alone has a name", async () => {
    const archive = { reference: "oci-archive:/srv/app.tar", repository: "oci-archive:/srv/app.tar" };
    const listImages = async () => [image({ ...archive, tag: undefined })];
    const { stdout } = await firectl(["images"], { operations: { listImages } });
    expect(stdout).toMatch(/^oci-archive:\/srv\/app\.tar {9}abababababab /m);
  });

  test("tells platforms apart where there are several", async () => {
    const listImages = async () => [NGINX, image({ platform: "linux/arm64" })];
    const { stdout } = await firectl(["images"], { operations: { listImages } });
    expect(stdout).toMatch(/^REPOSITORY +TAG +DIGEST +PLATFORM +CREATED.*\n.*linux\/amd64.*\n.*linux\/arm64/);
  });

  test.each([
    [["-q"], ["abababababab", "cdcdcdcdcdcd", "efefefefefef", "010101010101"]],
    [["-q", "--no-trunc", "nginx"], [NGINX.digest]],
    [["-q", "--digests", "registry.example:5000/team/app"], [TEAM.digest]],
    [
      ["--format", "{{.Repository}}:{{.Tag}}", "nginx"],
      ["nginx:1.27", "nginx:stable"],
    ],
    [["--format", "{{.Tag}}", "nginx:1.27"], ["1.27"]],
    [
      ["--format", "{{.Tag}}", "docker.io/library/nginx"],
      ["1.27", "stable"],
    ],
    [["--format", "{{.Tag}}", "ngin"], []],
    [
      ["--format", "{{.Tag}}", "n*"],
      ["1.27", "stable"],
    ],
    [
      ["--format", "{{.Tag}}", "*"],
      ["1.27", "stable"],
    ],
    [["--format", "{{.Tag}}", "*:2"], []],
    [["--format", "{{.Tag}}", "*/*/app"], ["2"]],
    [["--format", "{{.Tag}}", "nginx:[0-9]*"], ["1.27"]],
    [["--format", "{{.Tag}}", "nginx:?.27"], ["1.27"]],
    [
      ["--format", "{{.Digest}}", "-f", "dangling=true"],
      [OLD.digest, NAMELESS.digest],
    ],
    [
      ["--format", "{{.Repository}}", "-f", "dangling=true"],
      ["nginx", "<none>"],
    ],
    [
      ["--format", "{{.Tag}}", "-f", "dangling=false"],
      ["1.27", "stable", "2"],
    ],
    [["--format", "{{.Tag}}", "-f", "label=app"], ["1.27"]],
    [["--format", "{{.Tag}}", "-f", "label=app=web", "-f", "label=tier"], ["1.27"]],
    [["--format", "{{.Tag}}", "-f", "label=app=db"], []],
    [
      ["--format", "{{.Tag}}", "-f", "reference=nginx:1*", "-f", "reference=*/*/app"],
      ["1.27", "2"],
    ],
    [
      ["--format", "{{.Tag}}", "-f", "since=old"],
      ["1.27", "stable"],
    ],
    [
      ["--format", "{{.Digest}}", "-f", "before=old"],
      [TEAM.digest, NAMELESS.digest],
    ],
    [["--format", "{{.Containers}} {{.Disk}} {{.Size}}", "nginx:1.27"], ["2 250MB 70MB"]],
  ])("%j", async (argv, lines) => {
    expect(await show(...argv)).toEqual({
      status: 0,
      stdout: lines.map((line) => `${line}\n`).join(""),
      stderr: "",
    });
  });

  test.each([
    [["-f", "nonsense"], 2, /"nonsense" is not a filter/],
    [["-f", "size=1"], 2, /one of the keys reference, dangling, before, since, label/],
    [["-f", "dangling=maybe"], 2, /"maybe" is not true or false/],
    [["-f", "before=gone"], 3, /image gone is not here/],
    [["[z-a]"], 2, /"\[z-a\]" is not a pattern/],
    [["a", "b"], 2, /./],
  ])("%j is refused", async (argv, status, message) => {
    expect(await show(...argv)).toMatchObject({ status, stderr: expect.stringMatching(message) });
  });

  test("as JSON, one object a line", async () => {
    const lines = (await show("--json")).stdout.trim().split("\n");
    expect(lines.map((line) => JSON.parse(line).Digest)).toEqual(IMAGES.map(({ digest }) => digest));
  });
});

describe("rmi", () => {
  const remove = (...argv: string[]) => {
    const calls: [string, boolean | undefined][] = [];
    const result = firectl(["rmi", ...argv], {
      operations: {
        removeImage: async (reference, options) => {
          calls.push([reference, options?.force]);
          if (reference === "gone") throw new FirectlError("IMAGE_NOT_FOUND", "image gone is not here");
          if (reference === "used") throw new FirectlError("WRONG_STATE", "cannot remove used: VM a uses it");
          return { untagged: [`${reference}:latest`], deleted: reference === "both" ? [] : ["sha256:aa"] };
        },
      },
    });
    return { calls, result };
  };

  test("a name of foreign origin does nothing to the terminal", async () => {
    expect(await remove("evil\x1b[2J", "x").result).toMatchObject({
      stdout: "Untagged: evil\\x1b[2J:latest\nDeleted: sha256:aa\nUntagged: x:latest\nDeleted: sha256:aa\n",
    });
  });

  test("says what went", async () => {
    const { result, calls } = remove("a", "both", "a");
    expect(await result).toEqual({
      status: 0,
      stdout: "Untagged: a:latest\nDeleted: sha256:aa\nUntagged: both:latest\n",
      stderr: "",
    });
    expect(calls).toEqual([
      ["a", false],
      ["both", false],
    ]);
  });

  test("goes on after a failure, and has the first one's status", async () => {
    const { result } = remove("-f", "used", "gone", "a");
    expect(await result).toEqual({
      status: 4,
      stdout: "Untagged: a:latest\nDeleted: sha256:aa\n",
      stderr: "firectl: cannot remove used: VM a uses it\nfirectl: image gone is not here\n",
    });
  });

  test("as JSON", async () => {
    const { result } = remove("--json", "a");
    expect(JSON.parse((await result).stdout)).toEqual({ untagged: ["a:latest"], deleted: ["sha256:aa"] });
  });
});

test("tag says nothing", async () => {
  const calls: unknown[] = [];
  const operations = {
    tagImage: async (...names: [string, string]) => {
      calls.push(names);
      return "docker.io/library/b:1";
    },
  };
  expect(await firectl(["tag", "a", "b:1"], { operations })).toEqual({ status: 0, stdout: "", stderr: "" });
  expect(calls).toEqual([["a", "b:1"]]);
  expect(await firectl(["tag", "a"], { operations })).toMatchObject({ status: 2 });
});

describe("pull", () => {
  const pull = (...argv: string[]) =>
    firectl(["pull", ...argv], {
      operations: {
        pullImage: async (reference, { platform } = {}) => {
          if (reference === "gone") throw new FirectlError("IMAGE_NOT_FOUND", "there is no gone");
          return image({ digest: `${reference} ${platform}` });
        },
      },
    });

  test("prints a digest each, and goes on after a failure", async () => {
    expect(await pull("a", "gone", "b", "--platform", "linux/arm64")).toEqual({
      status: 3,
      stdout: "a linux/arm64\nb linux/arm64\n",
      stderr: "firectl: there is no gone\n",
    });
    expect(await pull("gone")).toEqual({ status: 3, stdout: "", stderr: "firectl: there is no gone\n" });
  });
});

describe("prune", () => {
  const report: PruneReport = {
    images: [{ untagged: ["a:1"], deleted: ["sha256:aa"] }],
    items: [
      { kind: "filesystem", name: "/data/base/x\u001b.ext4", bytes: 2_000_000 },
      { kind: "blob", name: "3 blobs", bytes: 1_000_000 },
    ],
    reclaimedBytes: 3_000_000,
    postponed: ["filesystems stay while VMs are being made (web)"],
  };
  const prune = (argv: readonly string[], stdin: readonly string[] = []) => {
    const calls: (PruneOptions | undefined)[] = [];
    const io = testIo({ stdin });
    const operations = {
      prune: async (options?: PruneOptions) => {
        calls.push(options);
        return report;
      },
    };
    return { calls, io, result: firectl(["prune", ...argv], { operations, io }) };
  };

  test("prints what went, and why something stayed", async () => {
    const { result, calls } = prune(["-f"]);
    expect(await result).toEqual({
      status: 0,
      stdout: [
        "Untagged: a:1",
        "Deleted: sha256:aa",
        "Deleted filesystem: /data/base/x\\x1b.ext4 (2MB)",
        "Deleted blobs: 3 blobs (1MB)",
        "Total reclaimed space: 3MB",
        "",
      ].join("\n"),
      stderr: "firectl: filesystems stay while VMs are being made (web)\n",
    });
    expect(calls).toEqual([{ all: false, volumes: false }]);
  });

  test.each([
    [["y\n"], 1],
    [["Y", "ES", "\n"], 1],
    [["y"], 1],
    [["n\n"], 0],
    [["\n"], 0],
    [["yesterday\n"], 0],
  ])("answered with %j", async (stdin, times) => {
    const { result, calls } = prune(["-a"], stdin);
    expect(await result).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/^This removes\n {2}- images that no VM uses\n.*\nGo on\? \[y\/N\] /),
    });
    expect(calls).toHaveLength(times);
  });

  test("does nothing when nobody answers", async () => {
    const { result, calls } = prune([]);
    expect(await result).toMatchObject({ status: 2, stderr: expect.stringContaining("write --force") });
    expect(calls).toEqual([]);
  });

  test("Ctrl-C ends the question", async () => {
    const io = testIo();
    const waiting = new Promise<void>(() => {});
    const stdin: AsyncIterable<Uint8Array> = {
      [Symbol.asyncIterator]: () => ({
        next: async () => {
          setImmediate(() => io.send("SIGINT"));
          await waiting;
          return { done: true, value: undefined };
        },
      }),
    };
    const result = await firectl(["prune"], { io: { ...io, stdin }, operations: {} });
    expect(result).toMatchObject({
      status: 130,
      stderr: expect.stringMatching(/\[y\/N\] \nfirectl: interrupted by SIGINT\n$/),
    });
  });

  test.each([
    ["until=1h", /^\d+$/],
    ["until=2026-01-01T00:00:00Z", /^1767225600000$/],
  ])("--filter %s", async (filter, expected) => {
    const { result, calls } = prune(["-f", "--filter", filter]);
    expect((await result).status).toBe(0);
    expect(String(calls[0]?.untilMs)).toMatch(expected);
  });

  test.each(["label=x", "until=", "until=soon"])("--filter %s is refused", async (filter) => {
    expect((await prune(["-f", "--filter", filter]).result).status).toBe(2);
  });

  test("as JSON", async () => {
    expect(JSON.parse((await prune(["-f", "--json"]).result).stdout)).toEqual(report);
  });
});

describe("df", () => {
  const items: readonly DiskUsageItem[] = [
    { kind: "image", name: "nginx:1.27", bytes: 60_000_000, inUse: true },
    { kind: "image", name: "debian:12", bytes: 40_000_000, inUse: false },
    { kind: "filesystem", name: `base/${"a".repeat(64)}.ext4`, bytes: 100_000_000, inUse: true },
    { kind: "vm", name: "web", bytes: 500_000, inUse: true },
    { kind: "download", name: "aa.partial", bytes: 1000, inUse: false },
  ];
  const df = (...argv: string[]) =>
    firectl(["df", ...argv], { operations: { diskUsage: async () => items } });

  test("a table", async () => {
    expect((await df()).stdout).toMatchInlineSnapshot(`
      "TYPE            TOTAL   IN USE   SIZE    RECLAIMABLE
      Images          2       1        100MB   40MB (40%)
      Filesystems     1       1        100MB   0B
      VM disks        1       1        500kB   0B
      Volumes         0       0        0B      0B
      Kernels         0       0        0B      0B
      Caches          0       0        0B      0B
      Unnamed blobs   0       0        0B      0B
      Downloads       1       0        1kB     1kB (100%)
      "
    `);
  });

  test("-v lists everything, the largest of a kind first", async () => {
    expect((await df("-v")).stdout).toMatchInlineSnapshot(`
      "TYPE         SIZE    IN USE   NAME
      image        60MB    yes      nginx:1.27
      image        40MB    no       debian:12
      filesystem   100MB   yes      base/aaaaaaaaaaaa….ext4
      vm           500kB   yes      web
      download     1kB     no       aa.partial
      "
    `);
  });

  test("for programs", async () => {
    expect(
      (await df("--format", "{{.Type}} {{.Active}}/{{.TotalCount}} {{.ReclaimableBytes}}")).stdout,
    ).toMatch(/^Images 1\/2 40000000\nFilesystems 1\/1 0\n/);
    expect((await df("-v", "--json")).stdout.trim().split("\n")).toHaveLength(items.length);
  });
});
