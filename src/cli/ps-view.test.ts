import { describe, expect, test } from "vitest";
import type { ProcessSummary } from "../manager/stats-api.ts";
import { psColumns } from "./ps-view.ts";

const PROCESS: ProcessSummary = {
  pid: 7,
  parentPid: 1,
  uid: 33,
  user: "www-data",
  state: "S",
  terminal: undefined,
  startedAtMs: Date.now() - 10_000,
  cpuMs: 3_723_000,
  residentBytes: 2048,
  virtualBytes: 4096,
  nice: 0,
  threads: 1,
  name: "nginx",
  args: ["nginx:", "worker"],
};

const row = (options: readonly string[], process: Partial<ProcessSummary> = {}): string[] =>
  psColumns(options).map(({ heading, cell }) => `${heading}=${cell({ ...PROCESS, ...process })}`);

describe("docker top's options", () => {
  test("none is -ef", () => {
    expect(row([])).toEqual(row(["-ef"]));
    expect(psColumns([]).map(({ heading }) => heading)).toEqual([
      "UID",
      "PID",
      "PPID",
      "C",
      "STIME",
      "TTY",
      "TIME",
      "CMD",
    ]);
    expect(row([])).toEqual(
      expect.arrayContaining([
        "UID=www-data",
        "PID=7",
        "PPID=1",
        "TTY=?",
        "TIME=01:02:03",
        "CMD=nginx: worker",
      ]),
    );
  });

  test.each([[["aux"]], [["-aux"]]])("%j", (options) => {
    expect(psColumns(options).map(({ heading }) => heading)).toEqual([
      "USER",
      "PID",
      "%CPU",
      "VSZ",
      "RSS",
      "TTY",
      "STAT",
      "START",
      "TIME",
      "COMMAND",
    ]);
  });

  test.each([
    [["-o", "pid,rss,args"]],
    [["-opid,rss,args"]],
    [["-eo", "pid", "rss,args"]],
    [["o", "PID,rss,command"]],
  ])("%j", (options) => {
    expect(row(options)).toEqual(["PID=7", "RSS=2", "COMMAND=nginx: worker"]);
  });

  test("a column may have a heading of its own", () => {
    expect(row(["-o", "pid=NUMBER"])).toEqual(["NUMBER=7"]);
  });

  test("what has no arguments has its name in brackets", () => {
    expect(row(["-o", "args"], { args: [] })).toEqual(["COMMAND=[nginx]"]);
    expect(row(["-o", "args"], { args: [], state: "Z" })).toEqual(["COMMAND=[nginx] <defunct>"]);
    expect(row(["-o", "time"], { cpuMs: 90_061_000 })).toEqual(["TIME=1-01:01:01"]);
  });

  test.each([
    [["-o"], "firectl has no ps for"],
    [["--forest"], "firectl has no ps for"],
    [["-o", "wchan"], 'there is no column "wchan"'],
  ])("refuses %j", (options, message) => {
    expect(() => psColumns(options)).toThrow(message);
  });
});
