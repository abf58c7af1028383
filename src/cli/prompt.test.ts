import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findExecutable } from "../host/files.ts";
import { streamProgram } from "../host/process.ts";

const hasScript = (await findExecutable("script", process.env["PATH"] ?? "")) !== undefined;

/** Asks twice on a real terminal, whose echo shows what a user would see. */
const PROGRAM = `
import { processIo } from ${JSON.stringify(fileURLToPath(new URL("io.ts", import.meta.url)))};
const io = processIo();
const signal = AbortSignal.timeout(20_000);
try {
  const user = await io.prompt("Username: ", { hidden: false, signal });
  const password = await io.prompt("Password: ", { hidden: true, signal });
  io.stdout.write("GOT " + JSON.stringify({ user, password }) + "\\n");
} catch (error) {
  io.stdout.write("FAILED " + error.code + "\\n");
}
await io.close();
`;

describe.skipIf(!hasScript)("asking on a terminal (needs script)", () => {
  let directory = "";
  beforeAll(async () => {
    directory = await mkdtemp(path.join(tmpdir(), "firectl-prompt-"));
    await build({
      stdin: { contents: PROGRAM, resolveDir: directory, loader: "ts" },
      bundle: true,
      platform: "node",
      format: "esm",
      outfile: path.join(directory, "ask.mjs"),
      logLevel: "error",
    });
  });
  afterAll(() => rm(directory, { recursive: true }));

  /** Types each text once the one before it has been asked for; returns what the terminal shows. */
  async function converse(answers: readonly (readonly [question: string, typed: string])[]): Promise<string> {
    const command = `${process.execPath} ${path.join(directory, "ask.mjs")}`;
    const program = streamProgram("script", ["-qec", command, "/dev/null"], { stdin: "pipe" });
    const left = [...answers];
    let shown = "";
    let seen = 0;
    for await (const chunk of program.stdout) {
      shown += String(chunk);
      const [next] = left;
      const found = next === undefined ? -1 : shown.indexOf(next[0], seen);
      if (next === undefined || found === -1) continue;
      seen = found + next[0].length;
      left.shift();
      program.stdin?.write(next[1]);
    }
    await program.finished;
    return shown;
  }

  test.each<[string, string, string]>([
    ["as it is", "s3cret\r", "s3cret"],
    ["with what is not ASCII", "pä\u{1f511}ss\r", "pä\u{1f511}ss"],
    ["with corrections", "wrong\u0015s3cre\u{1f511}\u007ft\r", "s3cret"],
  ])("hides a password, %s", async (_name, typed, password) => {
    const shown = await converse([
      ["Username: ", "me\n"],
      ["Password: ", typed],
    ]);
    expect(shown).toContain(`GOT ${JSON.stringify({ user: "me", password })}`);
    const [beforeResult = ""] = shown.split("GOT");
    expect(beforeResult.replace(/.*Password: /s, "").trim()).toBe("");
  });

  test.each([
    ["Ctrl-C", "abc\u0003"],
    ["Ctrl-D", "\u0004"],
  ])("%s ends it", async (_name, typed) => {
    const shown = await converse([
      ["Username: ", "me\n"],
      ["Password: ", typed],
    ]);
    expect(shown).toContain("FAILED INTERRUPTED");
  });

  test("needs a terminal", async () => {
    const program = streamProgram(process.execPath, [path.join(directory, "ask.mjs")], { stdin: "pipe" });
    program.stdin?.end("me\n");
    let output = "";
    for await (const chunk of program.stdout) output += String(chunk);
    expect(output).toBe("FAILED INVALID_ARGUMENT\n");
  });
});
