import { FirectlError, messageOf } from "../core/errors.ts";
import { exists } from "../host/files.ts";
import type { ProgressEvent, SetupReport } from "./api.ts";
import type { Context } from "./context.ts";
import { userNetworkLauncher } from "./network/user-network.ts";
import { choosePlatform, initramfsWith } from "./platform.ts";

type Step = SetupReport["steps"][number];

/** Checks what `run` needs and installs what firectl itself can: the guest kernel. */
export async function setUp(
  context: Context,
  options: { signal?: AbortSignal; onProgress?: (event: ProgressEvent) => void },
): Promise<SetupReport> {
  const steps = [
    await checkAgent(context),
    await checkNetwork(context),
    await ensureKernel(context, options),
  ];
  if (steps.every(({ status }) => status !== "missing")) steps.push(await checkVmm(context, options));
  return { steps, ready: steps.every(({ status }) => status !== "missing") };
}

function missing(what: string, error: unknown): Step {
  const hint = error instanceof FirectlError ? error.hint : undefined;
  return { what, status: "missing", detail: messageOf(error), ...(hint === undefined ? {} : { hint }) };
}

async function checkAgent(context: Context): Promise<Step> {
  const what = "guest agent";
  return (await exists(context.agentPath))
    ? { what, status: "ok", detail: context.agentPath }
    : {
        what,
        status: "missing",
        detail: `${context.agentPath} is not there`,
        hint: "install firectl again, or run make agent",
      };
}

/** VMs run without it, those that ask for a network excepted. */
async function checkNetwork(context: Context): Promise<Step> {
  const what = "network";
  try {
    const { passt } = await userNetworkLauncher(context, []);
    return { what, status: "ok", detail: `passt (${passt[0]})` };
  } catch (error) {
    return { what, status: "optional", detail: `none for VMs: ${messageOf(error)}` };
  }
}

async function ensureKernel(context: Context, options: { signal?: AbortSignal }): Promise<Step> {
  const what = "guest kernel";
  const kernel = await (await context.kernels()).default();
  if (kernel !== undefined) return { what, status: "ok", detail: kernel.name };
  const { ensureDefaultKernel } = await import("./kernels.ts");
  try {
    const added = await ensureDefaultKernel(context, options.signal);
    return { what, status: "done", detail: `installed ${added.name}` };
  } catch (error) {
    options.signal?.throwIfAborted();
    return missing(what, error);
  }
}

async function checkVmm(
  context: Context,
  options: { signal?: AbortSignal; onProgress?: (event: ProgressEvent) => void },
): Promise<Step> {
  const what = "virtual machine monitor";
  const notices: string[] = [];
  try {
    const { vmm, kernel } = await choosePlatform(context, {
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      onProgress: (event) => {
        if (event.kind === "notice") notices.push(event.message);
        else options.onProgress?.(event);
      },
    });
    // Here and not at the first run it is to be told that it cannot be made.
    await initramfsWith(context, kernel, []);
    return { what, status: "ok", detail: [`${vmm.name} (${vmm.executable})`, ...notices].join("; ") };
  } catch (error) {
    options.signal?.throwIfAborted();
    return missing(what, error);
  }
}
