import { writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { anyBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";
import { run } from "./support/run.ts";

const LIBRARY = path.resolve(import.meta.dirname, "../../dist/index.js");
const vmm = anyBackend();

let sandbox: Sandbox;
beforeAll(async () => {
  sandbox = await Sandbox.create();
});
afterAll(async () => {
  await sandbox.closeEmpty();
});

/** Runs a program that uses the library as a user's would; it prints JSON. */
async function program(body: string): Promise<unknown> {
  const file = path.join(sandbox.directory, "program.mjs");
  const imports = `import { Firectl, FirectlError } from ${JSON.stringify(LIBRARY)};`;
  const constants = `const image = "oci:${IMAGES}/layers", vmm = "${vmm}";`;
  await writeFile(file, [imports, constants, "const firectl = await Firectl.open();", body].join("\n"));
  return JSON.parse(await run(process.execPath, [file], { env: sandbox.env }));
}

const SCRIPT = "echo to stdout; echo to stderr >&2; until [ -e /go ]; do sleep 0.1; done; cat /line; exit 4";

test("a program runs a VM, acts on it, reads its output and its end, and leaves nothing", async () => {
  const told = await program(`
    const text = { stdout: "", stderr: "" };
    const decoder = new TextDecoder();
    const progress = [];
    const vm = await firectl.run({
      image, vmm, name: "from-a-program", labels: { by: "program" },
      command: ["/bin/sh", "-c", ${JSON.stringify(SCRIPT)}],
      onProgress: (event) => progress.push(event.kind),
    });
    const listed = await firectl.list();
    const executed = [];
    const exec = await firectl.exec("from-a-program", {
      command: ["/bin/sh", "-c", "cat >/line; echo sent; exit 3"],
      stdin: (async function* () { yield Buffer.from("by the program\\n"); })(),
      onOutput: ({ data }) => executed.push(decoder.decode(data)),
    });
    await firectl.exec("from-a-program", { command: ["/bin/touch", "/go"], onOutput: () => {} });
    for await (const chunk of vm.output()) text[chunk.stream] += decoder.decode(chunk.data);
    const exit = await vm.exit;
    const record = await firectl.inspect(vm.id);
    const logged = [];
    for await (const { data } of firectl.logs(vm.id)) logged.push(decoder.decode(data));
    await firectl.remove(vm.id);
    console.log(JSON.stringify({
      listed, text, exec, executed, exit, state: record.state, logged: logged.join(""), progress,
      timings: vm.timings(), left: await firectl.list({ all: true }),
    }));
  `);
  expect(told).toMatchObject({
    listed: [{ name: "from-a-program", state: "running", vmm, labels: { by: "program" } }],
    text: { stdout: "to stdout\nby the program\n", stderr: "to stderr\n" },
    exec: { exitCode: 3 },
    executed: ["sent\n"],
    exit: { exitCode: 4, oomKilled: false },
    state: "exited",
    progress: expect.arrayContaining(["building", "booting"]),
    timings: { totalMs: expect.any(Number), kernelMs: expect.any(Number), workloadMs: expect.any(Number) },
    left: [],
  });
  expect(told).toHaveProperty("logged", expect.stringContaining("by the program\n"));
  await sandbox.expectNothingLeft();
});

test("disposing of a VM that runs ends and removes it; a failure has its code", async () => {
  const told = await program(`
    const vm = await firectl.run({ image, vmm, command: ["/bin/sleep", "1000"] });
    await vm[Symbol.asyncDispose]();
    const code = (promise) => promise.then(() => "none", (error) => [error instanceof FirectlError, error.code]);
    console.log(JSON.stringify({
      gone: await code(firectl.inspect(vm.id)),
      image: await code(firectl.run({ image: "oci:/not/there", vmm })),
      aborted: await code(firectl.run({ image, vmm, signal: AbortSignal.abort(new FirectlError("INTERRUPTED", "no")) })),
      cpus: await code(firectl.run({ image, vmm, cpus: 33 })),
    }));
  `);
  expect(told).toEqual({
    gone: [true, "VM_NOT_FOUND"],
    image: [true, "FILE_NOT_FOUND"],
    aborted: [true, "INTERRUPTED"],
    cpus: [true, "INVALID_ARGUMENT"],
  });
  await sandbox.expectNothingLeft();
});
