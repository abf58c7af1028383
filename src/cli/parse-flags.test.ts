import { describe, expect, test } from "vitest";
import { firectl } from "./cli.test-helper.ts";
import { defineCommand } from "./command.ts";
import { run } from "./commands/run.ts";
import { stop } from "./commands/stop.ts";
import { parseCommandLine } from "./parse-flags.ts";

const parseRun = (...argv: string[]) => parseCommandLine(run, argv).input;

describe("run's flags end at the image, as in docker", () => {
  test.each([
    [
      ["-d", "img", "sh", "-d", "--rm"],
      ["img", "sh", "-d", "--rm"],
    ],
    [
      ["-e", "A=1", "img", "--", "-x"],
      ["img", "--", "-x"],
    ],
    [
      ["--", "img", "--help"],
      ["img", "--help"],
    ],
    [
      ["--name", "web", "img", "--name", "other"],
      ["img", "--name", "other"],
    ],
    [
      ["-dq", "img", "-qd"],
      ["img", "-qd"],
    ],
  ])("%j", (argv, args) => {
    expect(parseRun(...argv).args).toEqual(args);
  });

  test("--json and --help behind the image belong to the command", () => {
    const parsed = parseCommandLine(run, ["img", "--json", "--help"]);
    expect(parsed).toMatchObject({ json: false, help: false });
  });
});

describe("spellings of a flag with a value", () => {
  test.each([
    [["--memory", "512m"]],
    [["--memory=512m"]],
    [["-m", "512m"]],
    [["-m512m"]],
    [["-m=512m"]],
    [["-dm", "512m"]],
    [["-dm512m"]],
    [["-m", "1g", "-m", "512m"]],
  ])("%j", (argv) => {
    expect(parseRun(...argv, "img").flags).toMatchObject({ memory: 512 * 1024 * 1024 });
  });

  test("a value may begin with a dash", () => {
    expect(parseRun("--kernel-args", "-x", "img").flags).toMatchObject({ "kernel-args": [["-x"]] });
  });

  test("a value keeps its own equals signs", () => {
    expect(parseRun("-eA=b=c", "--env=D==", "img").flags).toMatchObject({
      env: [
        { key: "A", value: "b=c" },
        { key: "D", value: "=" },
      ],
    });
  });

  test("a switch can be turned off again", () => {
    expect(parseRun("--rm", "--rm=false", "img").flags).toMatchObject({ rm: false });
    expect(parseRun("--rm=true", "img").flags).toMatchObject({ rm: true });
  });
});

test("flags may follow the arguments of a command that passes nothing through", () => {
  expect(parseCommandLine(stop, ["web", "-t", "3", "db"]).input).toMatchObject({
    args: ["web", "db"],
    flags: { time: 3000 },
  });
  expect(parseCommandLine(stop, ["--", "-t"]).input.args).toEqual(["-t"]);
});

test("a handler gets its flags typed", () => {
  defineCommand({
    name: "example",
    summary: "",
    arguments: "",
    minArguments: 0,
    maxArguments: 0,
    flags: {
      on: { kind: "boolean", summary: "" },
      size: { kind: "value", placeholder: "N", parse: Number, summary: "" },
      tags: { kind: "list", placeholder: "T", parse: (text) => text.length, summary: "" },
    },
    examples: [],
    async handler({ flags }) {
      const typed: { on: boolean; size: number | undefined; tags: readonly number[] } = flags;
      return typed.tags.length;
    },
  });
});

test.each([
  [
    ["run", "--link", "db", "img"],
    125,
    "--link of docker run is not supported\nhint: no network is shared by VMs: --network user, and -p for what is to reach the VM",
  ],
  [
    ["run", "--restart", "always", "img"],
    125,
    "--restart of docker run is not supported yet\nhint: start it again yourself, or from systemd",
  ],
  [
    ["run", "--isolation", "hyperv", "img"],
    125,
    "--isolation of docker run is not supported\nhint: for containers on Windows: a VM is isolated by a kernel of its own",
  ],
  [["ps", "-l"], 2, "-l of docker ps is not supported\nhint: firectl list -a shows all, the newest last"],
  [
    ["update", "--restart", "always", "web"],
    2,
    "--restart of docker update is not supported yet\nhint: start it again yourself, or from systemd",
  ],
  [
    ["update", "--annotation", "a=b", "web"],
    2,
    "update: unknown flag --annotation\nhint: see firectl update --help",
  ],
  [
    ["run", "-c512", "img"],
    125,
    "-c of docker run is not supported\nhint: a VM has processors of its own; use --cpus",
  ],
  [
    ["run", "-dc", "512", "img"],
    125,
    "-c of docker run is not supported\nhint: a VM has processors of its own; use --cpus",
  ],
  [
    ["run", "--memroy", "1g", "img"],
    125,
    "run: unknown flag --memroy, did you mean --memory?\nhint: see firectl run --help",
  ],
  [["list", "-Z"], 2, "list: unknown flag -Z\nhint: see firectl list --help"],
  [["list", "--constructor"], 2, "list: unknown flag --constructor\nhint: see firectl list --help"],
  [["run", "-m"], 125, "run: -m needs a value: -m SIZE\nhint: see firectl run --help"],
  [["run", "--rm=perhaps", "img"], 125, '--rm: "perhaps" is not true or false'],
  [["run"], 125, "run: no image given\nhint: see firectl run --help"],
  [
    ["stop"],
    2,
    "stop: takes at least 1 argument (firectl stop [OPTIONS] VM [VM...]), got none\nhint: see firectl stop --help",
  ],
  [
    ["exec", "web"],
    125,
    'exec: takes at least 2 arguments (firectl exec [OPTIONS] VM COMMAND [ARG...]), got "web"\nhint: see firectl exec --help',
  ],
  [
    ["logs", "a", "b"],
    2,
    'logs: takes exactly 1 argument (firectl logs [OPTIONS] VM), got "a" "b"\nhint: see firectl logs --help',
  ],
  [
    ["list", "a"],
    2,
    'list: takes no arguments (firectl list [OPTIONS]), got "a"\nhint: see firectl list --help',
  ],
  [
    ["kernel", "add", "a", "b"],
    2,
    'kernel add: takes at most 1 argument (firectl kernel add [OPTIONS] [FILE|DIR|URL]), got "a" "b"\nhint: see firectl kernel add --help',
  ],
])("%j fails with %d", async (argv, status, message) => {
  expect(await firectl(argv)).toEqual({ status, stdout: "", stderr: `firectl: ${message}\n` });
});
