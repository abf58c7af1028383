import { expect, test } from "vitest";
import type { VmRecord } from "../state/vm-record.ts";
import { beginVm, freshContext } from "./images.test-helper.ts";
import { changeRecord } from "./records.ts";
import { updateVm } from "./update-vm.ts";

/** A VM on record as running, of which nothing runs. */
async function runningVm(more: Partial<VmRecord>, vcpuCount = 1) {
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
    ...more,
  }));
  if (record === undefined) throw new Error("it was just made");
  return { context, record };
}

test("a limit that the VM's VMM does not have is refused, before anything is changed", async () => {
  const { context, record } = await runningVm({ vmm: "qemu", network: { mode: "user", ports: [] } });
  const both = { cpus: 0.5, networkBytesPerSecond: 65_536 };
  await expect(updateVm(context, record, both)).rejects.toMatchObject({
    code: "UNSUPPORTED",
    message: "QEMU cannot limit the rate of a network interface",
  });
  expect((await context.vms.read())[0]).toEqual(record);
});

test("a VM without a network has none to limit", async () => {
  const { context, record } = await runningVm({ vmm: "firecracker" });
  await expect(updateVm(context, record, { networkPacketsPerSecond: 100 })).rejects.toMatchObject({
    code: "UNSUPPORTED",
    message: "web has no network to limit",
  });
});

test.each([
  [1, "1 processor"],
  [2, "2 processors"],
])("a VM that runs with %d gets no more, and the hint says how it does", async (vcpuCount, processors) => {
  const { context, record } = await runningVm({}, vcpuCount);
  await expect(updateVm(context, record, { cpus: 4 })).rejects.toMatchObject({
    code: "WRONG_STATE",
    message: `--cpus: web runs with ${processors}, and can have no more until it is started again`,
    hint: "firectl stop --keep web, then this again, then firectl start web",
  });
});
