import { expect, test } from "vitest";
import { runProgram, streamProgram } from "./process.ts";

// The script comes on stdin: what a program is asked for is its arguments.
const SCRIPT = "echo 'no image token:latest; invalid token: s3cret' >&2; exit 1";
const QUOTED = "no image token:latest; invalid token: ***";

test("a secret in a program's last words is not passed on, what it was asked for is", async () => {
  await expect(runProgram("sh", ["-s", "token:latest"], { input: SCRIPT })).rejects.toMatchObject({
    code: "PROCESS_FAILED",
    message: expect.stringMatching(/no image token:latest; invalid token: \*\*\*$/),
  });
  const streamed = streamProgram("sh", ["-s", "token:latest"], { stdin: "pipe" });
  streamed.stdin?.end(SCRIPT);
  streamed.stdout.resume();
  await expect(streamed.finished).rejects.toMatchObject({ message: `sh ended with status 1: ${QUOTED}` });
});
