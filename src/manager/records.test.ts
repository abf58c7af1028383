import { describe, expect, test } from "vitest";
import type { VmRecord } from "../state/vm-record.ts";
import { beginVm, freshContext } from "./images.test-helper.ts";
import { createRecord } from "./record-for.ts";
import { changeRecord, removalOf, requireState } from "./records.ts";
import { createVolume, removeVolume } from "./volumes/volumes.ts";

const SIZE = { cpus: 1, memoryMib: 128, diskBytes: 1 << 30, logBytes: 1 << 20, stopTimeoutMs: 1000 };

/** Puts a VM on record in that state; nothing runs. */
async function recorded(
  context: Awaited<ReturnType<typeof freshContext>>,
  name: string,
  changes: Partial<VmRecord>,
): Promise<VmRecord> {
  const { id } = await beginVm(context, "img", name);
  const record = await changeRecord(context.vms, id, (current) => ({ ...current, ...changes }));
  if (record === undefined) throw new Error("it was just made");
  return record;
}

describe("a VM in the wrong state", () => {
  test.each([
    ["exited", "firectl start web"],
    ["dead", "firectl start web"],
    ["creating", "it is being made: firectl list -a shows when web is up"],
    ["removing", "firectl rm web finishes a removal that was cut off"],
  ] as const)("%s: the hint leads to running", async (state, hint) => {
    const record = await recorded(await freshContext(), "web", { state });
    expect(() => requireState(record, "exec in", ["running"])).toThrow(
      expect.objectContaining({
        code: "WRONG_STATE",
        message: `cannot exec in web: it is ${state}, and must be running`,
        hint,
      }),
    );
  });

  test("running: the hint tells how to join it and how to end it", async () => {
    const record = await recorded(await freshContext(), "web", { state: "running" });
    expect(() => requireState(record, "start", ["exited", "dead"])).toThrow(
      expect.objectContaining({ hint: "firectl attach web joins it, firectl kill web ends it" }),
    );
    expect(() => requireState(record, "kill", ["running"])).not.toThrow();
  });
});

describe("the command that removes VMs", () => {
  test.each([
    [["exited"], "firectl rm vm0"],
    [["dead", "exited"], "firectl rm vm0 vm1"],
    [["running"], "firectl rm -f vm0"],
    [["exited", "creating"], "firectl rm -f vm0 vm1"],
  ] as const)("of %j", (states, command) => {
    expect(removalOf(states.map((state, index) => ({ name: `vm${index}`, state })))).toBe(command);
  });

  test.each([
    ["running", "firectl rm -f web"],
    ["exited", "firectl rm web"],
  ] as const)("is the hint where a name belongs to a VM that is %s", async (state, command) => {
    const context = await freshContext();
    const { id } = await recorded(context, "web", { state });
    const again = createRecord(context, {
      name: "web",
      imageName: "img",
      size: SIZE,
      labels: {},
      autoRemove: false,
      attached: false,
    });
    await expect(again).rejects.toMatchObject({
      code: "NAME_IN_USE",
      message: `the name "web" belongs to VM ${id}`,
      hint: `choose another name, or remove that VM: ${command}`,
    });
  });

  test("is the hint where VMs have a volume, with all of them", async () => {
    const context = await freshContext();
    await createVolume(context, [], { name: "data" });
    const mounts: VmRecord["mounts"] = [
      {
        type: "volume",
        name: "data",
        destination: "/data",
        readOnly: false,
        copy: true,
        exclusive: true,
        anonymous: false,
      },
    ];
    await recorded(context, "v1", { state: "running", mounts });
    await recorded(context, "v2", { state: "exited", mounts });
    await expect(removeVolume(context, "data")).rejects.toMatchObject({
      code: "VOLUME_IN_USE",
      message: 'the volume "data" is in use by v1, v2',
      hint: "remove what uses it first: firectl rm -f v1 v2",
    });
  });
});
