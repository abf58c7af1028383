import { spawn } from "node:child_process";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { identifyProcess, ownIdentity, type ProcessIdentity } from "../host/process-identity.ts";
import type { VmRecord } from "../state/vm-record.ts";
import { mendingOf } from "./mending.ts";
import { hostBootId } from "./records.ts";

let living: ProcessIdentity;
let dead: ProcessIdentity;
const child = spawn("sleep", ["600"]);

beforeAll(async () => {
  const found = identifyProcess(child.pid ?? 0);
  if (found === undefined) throw new Error("sleep runs");
  living = found;
  const ended = spawn("sleep", ["600"]);
  const identity = identifyProcess(ended.pid ?? 0);
  if (identity === undefined) throw new Error("sleep runs");
  dead = identity;
  ended.kill("SIGKILL");
  await once(ended, "exit");
});
afterAll(() => {
  child.kill();
});

function record(changes: Partial<VmRecord>): VmRecord {
  return {
    state: "running",
    attached: false,
    restarted: false,
    owner: null,
    process: null,
    hostBootId: hostBootId(),
    ...changes,
    // Only the fields that the judgement reads.
  } as VmRecord;
}

describe("mendingOf", () => {
  test.each<[string, () => Partial<VmRecord>, ReturnType<typeof mendingOf>]>([
    [
      "a VM being made by a living firectl is left alone",
      () => ({ state: "creating", owner: ownIdentity() }),
      "none",
    ],
    ["one whose maker was killed is destroyed", () => ({ state: "creating", owner: dead }), "destroy"],
    ["one without a maker is destroyed", () => ({ state: "creating", owner: null }), "destroy"],
    ["a removal under way is left alone", () => ({ state: "removing", owner: ownIdentity() }), "none"],
    ["a removal that was killed is finished", () => ({ state: "removing", owner: dead }), "destroy"],
    ["a detached VM that runs is left alone", () => ({ process: living }), "none"],
    ["one whose VMM has ended is finished", () => ({ process: dead }), "finish"],
    [
      "an attached VM with its owner is left alone",
      () => ({ process: living, attached: true, owner: ownIdentity() }),
      "none",
    ],
    [
      "one whose owner was killed is destroyed",
      () => ({ process: living, attached: true, owner: dead }),
      "destroy",
    ],
    [
      "a pid of another boot of the host is nobody's",
      () => ({ process: living, hostBootId: "another" }),
      "finish",
    ],
    [
      "a pid that was used again is nobody's",
      () => ({ process: { pid: living.pid, startTime: living.startTime - 1 } }),
      "finish",
    ],
    ["a VM that has ended is left alone", () => ({ state: "exited" }), "none"],
    ["a dead one too", () => ({ state: "dead" }), "none"],
  ])("%s", (_what, changes, expected) => {
    expect(mendingOf(record(changes()))).toBe(expected);
  });
});
