import { expect, test } from "vitest";
import { ownIdentity } from "../host/process-identity.ts";
import { addImage, addVm, freshContext } from "./images.test-helper.ts";
import { changeRecord } from "./records.ts";
import { settleEndedVm } from "./settle-vm.ts";

test("whoever sees the end of a life late does not remove the next one", async () => {
  const context = await freshContext();
  const { id } = await addVm(context, await addImage(context, "a"), { state: "running" });
  const lives = [];
  for (const [startedAt, process] of [
    ["2026-01-01T00:00:00Z", { pid: 1, startTime: 0 }],
    ["2026-01-01T00:01:00Z", ownIdentity()],
  ] as const) {
    lives.push(
      await changeRecord(context.vms, id, (record) => ({ ...record, startedAt, process, autoRemove: true })),
    );
  }
  const [first, second] = lives;
  if (first === undefined) throw new Error("it was just changed");
  await settleEndedVm(context, first);
  expect(await context.vms.read()).toEqual([second]);
});
