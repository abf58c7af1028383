import { expect, test } from "vitest";
import { beginVm, freshContext } from "./images.test-helper.ts";
import { changeRecord } from "./records.ts";
import { updateVm } from "./update-vm.ts";

test.each([
  [1, "1 processor"],
  [2, "2 processors"],
])("a VM that runs with %d gets no more, and the hint says how it does", async (vcpuCount, processors) => {
  const context = await freshContext();
  const { id } = await beginVm(context, "img", "web");
  const record = await changeRecord(context.vms, id, (current) => ({
    ...current,
    state: "running",
    machine: {
      vcpuCount,
      memoryMib: 128,
      bootSource: { kernelImagePath: "/k", initrdPath: "/i", kernelArguments: [] },
      drives: [],
      vsock: { guestCid: 3, socketPath: "/s" },
    },
    workload: {
      args: ["sh"],
      env: [],
      cwd: "/",
      user: "",
      hostname: "web",
      stopSignal: 15,
      readOnly: false,
      storage: "overlay",
    },
  }));
  if (record === undefined) throw new Error("it was just made");
  await expect(updateVm(context, record, { cpus: 4 })).rejects.toMatchObject({
    code: "WRONG_STATE",
    message: `--cpus: web runs with ${processors}, and can have no more until it is started again`,
    hint: "firectl stop --keep web, then this again, then firectl start web",
  });
});
