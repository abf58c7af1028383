import { expect } from "vitest";
import type { Sandbox } from "./firectl.ts";

/** An emulated systemd starts its units in tens of seconds. */
const PATIENCE = { timeout: 300_000, interval: 200 };

/** Waits until systemd, the init of the VM's image, has started all of its units, none of which has failed. */
export async function expectSystemd(sandbox: Sandbox, vm: string): Promise<void> {
  const inside = (...command: string[]) => sandbox.call(["exec", vm, ...command]);
  // There is nobody to ask before its bus is there.
  const state = () => inside("systemctl", "is-system-running", "--wait");
  await expect.poll(state, PATIENCE).toMatchObject({ stdout: "running\n" });
  const failed = await inside("systemctl", "list-units", "--state=failed", "--plain", "--no-legend");
  expect(failed).toMatchObject({ stdout: "", status: 0 });
  expect(await inside("cat", "/proc/1/comm")).toMatchObject({ stdout: "systemd\n" });
}
