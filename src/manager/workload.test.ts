import { describe, expect, test } from "vitest";
import type { RunOptions } from "./api.ts";
import { mergeEnvironment, workloadOf } from "./workload.ts";

const image = {
  entrypoint: ["/entry"],
  cmd: ["serve"],
  env: ["PATH=/bin", "A=1"],
  user: "web",
  workingDir: "/srv",
};

function merge(run: Partial<RunOptions>, from = image) {
  return workloadOf(from, { run: { image: "app", ...run }, hostname: "h", stopSignal: 15 });
}

describe("workloadOf", () => {
  test.each<[string, Partial<RunOptions>, string[]]>([
    ["takes Entrypoint and Cmd", {}, ["/entry", "serve"]],
    ["lets a command replace Cmd", { command: ["x", "-y"] }, ["/entry", "x", "-y"]],
    ["lets an entrypoint drop Cmd", { entrypoint: ["/other"] }, ["/other"]],
    ["joins a given entrypoint and command", { entrypoint: ["/other"], command: ["z"] }, ["/other", "z"]],
    ["lets an empty entrypoint clear it", { entrypoint: [], command: ["z"] }, ["z"]],
  ])("%s", (_what, run, args) => {
    expect(merge(run).args).toEqual(args);
  });

  test("refuses to run nothing", () => {
    expect(() => merge({ entrypoint: [] })).toThrow("app names no command to run, and none was given");
  });

  test("honours user and working directory, and overrides them", () => {
    expect(merge({})).toMatchObject({ user: "web", cwd: "/srv" });
    expect(merge({ user: "0:0", workingDir: "/tmp" })).toMatchObject({ user: "0:0", cwd: "/tmp" });
    expect(merge({}, { ...image, workingDir: "" }).cwd).toBe("/");
    expect(merge({}, { ...image, workingDir: "rel" }).cwd).toBe("/rel");
    expect(() => merge({ workingDir: "rel" })).toThrow('the working directory "rel" is not an absolute path');
  });

  test("replaces variables in place and adds new ones behind", () => {
    expect(mergeEnvironment(["PATH=/bin", "A=1"], ["A=2", "B=x=y", "A=3"])).toEqual([
      "PATH=/bin",
      "A=3",
      "B=x=y",
    ]);
  });
});
