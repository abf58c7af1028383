import { describe, expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import type { ImportImageOptions, LoadSource, SaveImagesOptions } from "../manager/api.ts";
import { firectl, testIo } from "./cli.test-helper.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;

async function textOf(chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts).toString();
}

describe("load", () => {
  const loaded = [
    { names: ["app:1", "other"], digest: DIGEST },
    { names: [], digest: DIGEST },
  ];

  test("prints each name, or the id of an image without any", async () => {
    const seen: LoadSource[] = [];
    const result = await firectl(["load", "-i", "app.tar", "--platform", "linux/arm64"], {
      operations: {
        async loadImages(source, options) {
          seen.push(source);
          expect(options?.platform).toBe("linux/arm64");
          return loaded;
        },
      },
    });
    expect(seen).toEqual([{ file: "app.tar" }]);
    expect(result).toEqual({
      status: 0,
      stdout: `Loaded image: app:1\nLoaded image: other\nLoaded image ID: ${DIGEST}\n`,
      stderr: "",
    });
  });

  test("reads stdin when it is piped, and refuses a terminal", async () => {
    let text = "";
    const operations = {
      async loadImages(source: LoadSource) {
        if ("input" in source) text = await textOf(source.input);
        return [];
      },
    };
    expect(await firectl(["load", "-q"], { operations, stdin: ["an ", "archive"] })).toMatchObject({
      status: 0,
    });
    expect(text).toBe("an archive");
    const refused = await firectl(["load"], { operations, stdinIsTerminal: true });
    expect(refused).toMatchObject({ status: 2, stdout: "" });
    expect(refused.stderr).toContain("stdin is a terminal");
  });

  test("is JSON for programs; a hostile name is made harmless", async () => {
    const loadImages = async () => [{ names: ["a\u001b[31m"], digest: DIGEST }];
    expect((await firectl(["load"], { operations: { loadImages } })).stdout).toBe(
      "Loaded image: a\\x1b[31m\n",
    );
    const { stdout } = await firectl(["--json", "load"], { operations: { loadImages } });
    expect(JSON.parse(stdout)).toEqual({ names: ["a\u001b[31m"], digest: DIGEST });
  });

  test("passes failures on", async () => {
    const loadImages = async () => {
      throw new FirectlError("ARCHIVE_INVALID", "archive x: it is empty");
    };
    expect(await firectl(["load"], { operations: { loadImages } })).toEqual({
      status: 6,
      stdout: "",
      stderr: "firectl: archive x: it is empty\n",
    });
  });
});

describe("save", () => {
  test("writes to stdout, or has a file written", async () => {
    const seen: (readonly [readonly string[], SaveImagesOptions["output"], SaveImagesOptions["format"]])[] =
      [];
    const operations = {
      async saveImages(references: readonly string[], options: SaveImagesOptions) {
        seen.push([references, options.output, options.format]);
        if (typeof options.output !== "string") await options.output(Buffer.from("archive"));
      },
    };
    expect(await firectl(["save", "a", "b"], { operations })).toEqual({
      status: 0,
      stdout: "archive",
      stderr: "",
    });
    expect(await firectl(["save", "-o", "x.tar", "--format", "oci-archive", "a"], { operations })).toEqual({
      status: 0,
      stdout: "",
      stderr: "",
    });
    expect(seen).toEqual([
      [["a", "b"], expect.any(Function), undefined],
      [["a"], "x.tar", "oci-archive"],
    ]);
  });

  test("refuses a terminal and unknown formats", async () => {
    const io = testIo({ stdoutIsTerminal: true });
    expect(await firectl(["save", "a"], { io })).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("stdout is a terminal"),
    });
    expect(await firectl(["save", "--format", "oci", "a"])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("one of docker-archive, oci-archive"),
    });
    expect(await firectl(["save"])).toMatchObject({ status: 2 });
  });
});

describe("import", () => {
  test("passes changes on in their order", async () => {
    const seen: unknown[] = [];
    const operations = {
      async importImage(source: string | AsyncIterable<Uint8Array>, options: ImportImageOptions = {}) {
        const { name, changes, message, platform } = options;
        seen.push([
          typeof source === "string" ? source : await textOf(source),
          { name, changes, message, platform },
        ]);
        return { names: [], digest: DIGEST };
      },
    };
    const argv = ["import", "-c", "CMD a", "--change", "ENV B=c", "-m", "why", "root.tar", "app:1"];
    expect(await firectl(argv, { operations })).toEqual({ status: 0, stdout: `${DIGEST}\n`, stderr: "" });
    expect(await firectl(["import", "-"], { operations, stdin: ["tar"] })).toMatchObject({ status: 0 });
    expect(seen).toEqual([
      ["root.tar", { name: "app:1", changes: ["CMD a", "ENV B=c"], message: "why", platform: undefined }],
      ["tar", { name: undefined, changes: [], message: undefined, platform: undefined }],
    ]);
  });

  test("refuses a terminal, and what it would have to fetch", async () => {
    expect(await firectl(["import", "-"], { stdinIsTerminal: true })).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("stdin is a terminal"),
    });
    expect(await firectl(["import", "https://example.com/a.tar"])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("hint: curl -fL https://example.com/a.tar | firectl import -"),
    });
  });
});
