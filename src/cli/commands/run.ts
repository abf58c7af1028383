import { FirectlError } from "../../core/errors.ts";
import { mark } from "../../core/trace.ts";
import type { FirectlOperations, ProgressEvent, RunOptions, StartedVm } from "../../manager/api.ts";
import { type AttachOptions, attachToWorkload } from "../attach.ts";
import { createCidfile } from "../cidfile.ts";
import { type Command, type CommandContext, type CommandInput, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import { healthFrom } from "../health-flags.ts";
import { limitsFrom } from "../image-flags.ts";
import { collectEnv, collectLabels } from "../key-values.ts";
import { mountOptionsFrom } from "../mount-flags.ts";
import { networkFrom } from "../network-flags.ts";
import { resourcesFrom } from "../resource-flags.ts";
import { FLAGS_BESIDE_CONFIG, RUN_FLAGS } from "../run-flags.ts";
import { safeJson } from "../sanitize.ts";
import { attachedFrom, sessionFrom, signalsPass } from "../session-flags.ts";
import { renderTimings } from "../timing.ts";
import { detachKeysFor } from "../typed-input.ts";

type RunInput = CommandInput<typeof RUN_FLAGS>;
type Launch = (
  operations: FirectlOperations,
  common: { signal: AbortSignal; onProgress: (event: ProgressEvent) => void },
) => Promise<StartedVm>;

export const run: Command = defineCommand({
  name: "run",
  summary: "Run an image's process in a new VM",
  description:
    "The process's output is ours, and so is its exit status; 125 when firectl fails, 126 and 127 when the\nprocess cannot be run. The first Ctrl-C goes to the process, the second ends the wait.\n\nIMAGE is a name in the local store or a registry (nginx, ghcr.io/org/app:v1), or one of\n\n  docker:NAME                an image of the Docker Engine\n  docker-archive:FILE[:NAME] a file of docker save or podman save\n  oci:DIR[:TAG]              an OCI image layout; oci-archive:FILE[:TAG], the tar of one\n  rootfs:DIR-or-TAR          a root filesystem; rootfs:- reads a tar from stdin\n\nFlags after IMAGE belong to COMMAND.",
  arguments: "IMAGE [COMMAND [ARG...]]",
  minArguments: 0,
  maxArguments: Number.POSITIVE_INFINITY,
  passThrough: true,
  failureStatus: 125,
  flags: RUN_FLAGS,
  examples: [
    "firectl run --rm alpine echo hello",
    "firectl run -d --name web -m 512m --cpus 2 nginx",
    "firectl run --rm -e DEBUG=1 -w /src docker:my-app npm test",
    "firectl run -d --config vm.json",
  ],
  async handler(input, context) {
    const { flags } = input;
    // All of the command line is checked before anything is opened or started.
    if (flags.wait && !flags.detach) {
      throw new FirectlError("INVALID_ARGUMENT", "run: --wait goes with --detach", {
        hint: "a foreground run waits for the process's end",
      });
    }
    const attached = attachedFrom(input, context);
    const detachKeys = await detachKeysFor(context, flags["detach-keys"]);
    const launch =
      flags.config === undefined ? imageLaunch(input, context) : configLaunch(input, flags.config);
    using cidfile = flags.cidfile === undefined ? undefined : createCidfile(flags.cidfile);
    const operations = await context.firectl();
    mark("context");
    const progress = await context.progress({ quiet: flags.quiet });
    mark("progress");
    const signal = context.interrupts.signal();
    const onProgress = (event: ProgressEvent): void => {
      if (event.kind === "resolving") void prepareForDownload();
      progress.update(event);
    };
    const loadMs = performance.now();
    const vm = await launch(operations, { signal, onProgress });
    cidfile?.write(vm.id);
    if (flags.wait) await waitUntilHealthy(operations, { vm, signal });
    progress.stop();
    const status = flags.detach
      ? await leaveDetached(vm, context)
      : await stay(vm, context, { ...attached, detachKeys, signalsPass: signalsPass(input) });
    if (flags.timing) {
      const timings = { loadMs, ...vm.timings() };
      context.io.stderr.write(context.json ? `${safeJson({ timings })}\n` : renderTimings(timings));
    }
    return status;
  },
});

/** Without a health check, a process that runs is all there is to wait for. */
async function waitUntilHealthy(
  operations: FirectlOperations,
  options: { readonly vm: StartedVm; readonly signal: AbortSignal },
): Promise<void> {
  const { vm, signal } = options;
  const { workload } = await operations.inspect(vm.id);
  const hasCheck = typeof workload === "object" && workload !== null && "healthCheck" in workload;
  if (hasCheck) await operations.waitForHealth(vm.id, "healthy", { rejectUnhealthy: true, signal });
}

/** Loaded with the first image that is not here yet: a start needs nothing of it. */
async function prepareForDownload(): Promise<void> {
  const { collectGarbageLater } = await import("../garbage.ts");
  collectGarbageLater();
}

function stay(
  vm: StartedVm,
  context: CommandContext,
  options: Omit<AttachOptions, "leave">,
): Promise<number> {
  // As docker does where nothing else is shown.
  if (options.outputs.size === 0) context.io.stdout.write(`${vm.id}\n`);
  return attachToWorkload(vm, context, {
    ...options,
    async leave() {
      await vm.detach();
      return 0;
    },
  });
}

async function leaveDetached(vm: StartedVm, context: CommandContext): Promise<number> {
  await using started = vm;
  context.io.stdout.write(`${started.id}\n`);
  return 0;
}

function imageLaunch({ flags, given, args }: RunInput, context: CommandContext): Launch {
  const [image, ...command] = args;
  if (image === undefined || image === "") {
    throw new FirectlError("INVALID_ARGUMENT", "run: no image given", { hint: "see firectl run --help" });
  }
  const options: RunOptions = {
    image,
    command,
    env: collectEnv({ files: flags["env-file"], pairs: flags.env }, context.io.env),
    readOnly: flags["read-only"],
    ...(flags.init ? { init: true } : {}),
    ...sessionFrom({ flags, given }, context),
    kernelArguments: flags["kernel-args"].flat(),
    ...recordOptions(flags),
    ...limitsFrom(flags),
    ...resourcesFrom(flags),
    ...networkFrom(flags),
    ...healthFrom({ flags, given }),
    ...mountOptionsFrom(flags),
    ...defined({
      entrypoint: entrypointOf(flags.entrypoint),
      user: flags.user,
      workingDir: flags.workdir,
      hostname: flags.hostname,
      stopSignal: flags["stop-signal"],
      stopTimeoutMs: flags["stop-timeout"],
      cpus: flags.cpus,
      memoryBytes: flags.memory,
      diskBytes: flags["disk-size"],
      logBytes: flags["log-size"],
      pull: flags.pull,
      platform: flags.platform,
      vmm: flags.vmm,
      kernel: flags.kernel,
      storage: flags.storage,
      imageDevice: flags["image-device"],
      bootSnapshot: flags["boot-snapshot"],
    }),
  };
  return (operations, common) => operations.run({ ...options, ...common });
}

function configLaunch({ flags, given, args }: RunInput, configPath: string): Launch {
  const clash = [...given].find((name) => !FLAGS_BESIDE_CONFIG.has(name));
  if (clash !== undefined) {
    throw new FirectlError("INVALID_ARGUMENT", `run: --${clash} does not go with --config`, {
      hint: `set it in ${configPath} instead`,
    });
  }
  if (args.length > 0) {
    throw new FirectlError("INVALID_ARGUMENT", `run: --config takes no image, got "${args.join(" ")}"`, {
      hint: `${configPath} names kernel and disks`,
    });
  }
  const options = { configPath, ...recordOptions(flags), ...defined({ vmm: flags.vmm }) };
  return (operations, common) => operations.runConfiguration({ ...options, ...common });
}

/** What goes into the VM's record, whatever it is made from. */
function recordOptions(flags: RunInput["flags"]) {
  return {
    labels: collectLabels({ files: flags["label-file"], pairs: flags.label }),
    autoRemove: flags.rm,
    detach: flags.detach,
    ...defined({ name: flags.name }),
  };
}

/** Docker takes one word, and an empty one as "none". */
function entrypointOf(text: string | undefined): readonly string[] | undefined {
  if (text === undefined) return undefined;
  return text === "" ? [] : [text];
}
