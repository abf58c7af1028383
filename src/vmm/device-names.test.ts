import { expect, test } from "vitest";
import { guestDeviceName } from "./device-names.ts";
import type { Drive, DriveDevice } from "./vmm.ts";

function drive(id: string, device?: DriveDevice): Drive {
  return { id, path: `/${id}`, readOnly: false, cache: "unsafe", ...(device && { device }) };
}

test("disks and persistent memory are counted apart", () => {
  const drives = [drive("base", "pmem"), drive("upper"), drive("more", "pmem"), drive("control", "block")];
  expect(drives.map(({ id }) => guestDeviceName(drives, id))).toEqual(["pmem0", "vda", "pmem1", "vdb"]);
  expect(() => guestDeviceName(drives, "none")).toThrow('no drive "none"');
});

test("the twenty-seventh disk has two letters, as in the kernel", () => {
  const drives = Array.from({ length: 703 }, (_, index) => drive(`d${index}`));
  expect([0, 25, 26, 51, 52, 701, 702].map((index) => guestDeviceName(drives, `d${index}`))).toEqual([
    ...["vda", "vdz", "vdaa", "vdaz", "vdba", "vdzz", "vdaaa"],
  ]);
});
