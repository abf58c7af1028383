import { randomUUID } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { rm } from "node:fs/promises";
import * as z from "zod";
import { FirectlError, messageOf } from "../../core/errors.ts";
import { writeFileAtomic } from "../../host/files.ts";
import { runProgram, streamProgram } from "../../host/process.ts";
import { isAlive, ownIdentity } from "../../host/process-identity.ts";
import {
  formatPlatform,
  hostPlatform,
  normalise,
  type Platform,
  platformDistance,
  platformMissing,
} from "../platform.ts";
import { everyMebibyte } from "../progress.ts";
import { type ImageReference, normalisedReference } from "../reference.ts";
import { makeSingleLayerImage } from "../single-layer.ts";
import type { BlobDescriptor } from "../store/content-store.ts";
import { ingestStream } from "../store/ingest.ts";
import { withoutInjectedFiles } from "./docker-export.ts";
import type { ImageSource, SourceContext, SourcedImage } from "./source.ts";

const COMMAND_TIMEOUT_MS = 120_000;
const PULL_TIMEOUT_MS = 3_600_000;
/** Longest silence of `docker export`. */
const EXPORT_IDLE_TIMEOUT_MS = 120_000;

/** `<pid>:<start time>` of the firectl that made the container; with {@link SCOPE_LABEL} it says whether it lives. */
const OWNER_LABEL = "firectl.temporary";
/** The boot and the pid namespace in which the owner's pid means something. */
const SCOPE_LABEL = "firectl.temporary.scope";

const inspectSchema = z.object({
  Id: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  Created: z.string().nullish(),
  Os: z.string(),
  Architecture: z.string(),
  Variant: z.string().nullish(),
  Config: z.record(z.string(), z.unknown()).nullish(),
});
type Inspected = z.infer<typeof inspectSchema>;

/** What an image configuration takes over from Docker's; the rest is about Docker's own containers. */
const CONFIG_FIELDS = [
  "User",
  "ExposedPorts",
  "Env",
  "Entrypoint",
  "Cmd",
  "Volumes",
  "WorkingDir",
  "Labels",
  "StopSignal",
  "Healthcheck",
] as const;

/**
 * Images of the Docker Engine, through its command line: a container is created, never started, its
 * filesystem exported as one layer, and the container removed. `DOCKER_HOST` and the like are Docker's own.
 */
export class DockerSource implements ImageSource {
  readonly reference: string;
  readonly #name: string;

  constructor(reference: ImageReference) {
    this.#name = normalisedReference(reference);
    this.reference = `docker:${this.#name}`;
  }

  async bring(context: SourceContext): Promise<SourcedImage> {
    const inspected = await this.#locate(context);
    const origin = `docker:${inspected.Id}`;
    if (context.known?.entry.origin === origin) return context.known;
    const image = await context.once(origin, async () => {
      await sweepLeftovers(context);
      const layer = await exportImage(inspected, this.reference, context);
      return makeSingleLayerImage(context.store, {
        layer,
        reference: this.reference,
        origin,
        platform: platformOf(inspected),
        config: imageConfigOf(inspected),
        created: inspected.Created ?? undefined,
      });
    });
    return renamed(image, this.reference);
  }

  /** What Docker has under the name, pulled first when the policy says so. */
  async #locate(context: SourceContext): Promise<Inspected> {
    const { platform, pull } = context;
    const before = pull === "always" ? undefined : await inspect(this.#name, context);
    if (before !== undefined && isFor(before, platform)) return before;
    if (pull === "never") {
      if (before !== undefined) throw platformMissing(this.reference, platform, [platformOf(before)]);
      throw new FirectlError("IMAGE_NOT_FOUND", `Docker has no image ${this.#name}`, {
        hint: `docker pull ${this.#name}`,
      });
    }
    context.onProgress({ type: "docker-pulling", reference: this.reference });
    await docker(["pull", "--quiet", ...platformFlag(platform), this.#name], context, PULL_TIMEOUT_MS);
    const after = await inspect(this.#name, context);
    if (after === undefined) {
      throw new FirectlError("DOCKER_FAILED", `Docker pulled ${this.#name} but does not have it`);
    }
    if (!isFor(after, platform)) throw platformMissing(this.reference, platform, [platformOf(after)]);
    return after;
  }
}

async function inspect(name: string, context: SourceContext): Promise<Inspected | undefined> {
  let output: string;
  try {
    output = await docker(["image", "inspect", "--format", "{{json .}}", name], context);
  } catch (error) {
    if (/no such image|not found/i.test(messageOf(error))) return undefined;
    throw error;
  }
  try {
    return inspectSchema.parse(JSON.parse(output));
  } catch (error) {
    throw new FirectlError("DOCKER_FAILED", `docker image inspect ${name} says something unreadable`, {
      cause: error,
    });
  }
}

/** Exports the image's filesystem into the store as one layer. */
async function exportImage(
  inspected: Inspected,
  reference: string,
  context: SourceContext,
): Promise<BlobDescriptor> {
  const name = `firectl-export-${randomUUID()}`;
  const owner = ownIdentity();
  const note = context.store.containerNotePath(name);
  try {
    await writeFileAtomic(note, "");
    // Without the caller's signal: cut off in the middle, nobody would know whether the container exists.
    await docker(
      [
        "create",
        `--name=${name}`,
        `--label=${OWNER_LABEL}=${owner.pid}:${owner.startTime}`,
        `--label=${SCOPE_LABEL}=${ownScope()}`,
        "--network=none",
        ...platformFlag(context.platform),
        // It never runs, but an image without a command could not be created otherwise.
        "--entrypoint=/",
        inspected.Id,
      ],
      { env: context.env, signal: undefined },
    );
    context.signal?.throwIfAborted();
    return await ingestStream(context.store, exportedTar(name, reference, context));
  } finally {
    await removeContainer(name, context.env);
    await rm(note, { force: true });
  }
}

/**
 * Removes the container that a note of a killed firectl names. Where there is no Docker any more, or it does
 * not answer, the note stays for another time.
 */
export async function removeLeftover(
  leftover: { container: string; file: string },
  env: NodeJS.ProcessEnv,
): Promise<void> {
  if (!/^firectl-export-[0-9a-f-]+$/.test(leftover.container)) return;
  try {
    await removeContainer(leftover.container, env);
  } catch (error) {
    if (error instanceof FirectlError) return;
    throw error;
  }
  await rm(leftover.file, { force: true });
}

async function* exportedTar(
  container: string,
  reference: string,
  context: SourceContext,
): AsyncGenerator<Uint8Array> {
  const idle = new AbortController();
  const timer = setTimeout(() => {
    idle.abort(new FirectlError("TIMEOUT", `docker export ${container} was silent for too long`));
  }, EXPORT_IDLE_TIMEOUT_MS);
  const signal = context.signal === undefined ? idle.signal : AbortSignal.any([context.signal, idle.signal]);
  const program = streamProgram("docker", ["export", container], { signal, env: context.env });
  let received = 0;
  const report = everyMebibyte(() => context.onProgress({ type: "exporting", reference, received }));
  try {
    for await (const chunk of withoutInjectedFiles(program.stdout)) {
      timer.refresh();
      received += chunk.byteLength;
      report(received);
      yield chunk;
    }
    await program.finished;
  } catch (error) {
    signal.throwIfAborted();
    // An export that failed is a tar that ends early: its own last words say more.
    await program.finished.catch((cause: unknown) => {
      throw dockerError(cause);
    });
    throw error;
  } finally {
    clearTimeout(timer);
    program.stdout.destroy();
  }
}

/** Removes containers whose firectl was killed. Those of another boot or pid namespace are not ours to judge. */
async function sweepLeftovers(context: SourceContext): Promise<void> {
  const format = `{{.Names}} {{.Label "${OWNER_LABEL}"}}`;
  const filter = `label=${SCOPE_LABEL}=${ownScope()}`;
  const output = await docker(["ps", "--all", "--filter", filter, "--format", format], context);
  for (const line of output.split("\n")) {
    const [, name, pid, startTime] = /^(firectl-export-[0-9a-f-]+) (\d+):(\d+)$/.exec(line.trim()) ?? [];
    if (name === undefined) continue;
    if (isAlive({ pid: Number(pid), startTime: Number(startTime) })) continue;
    await removeContainer(name, context.env);
  }
}

async function removeContainer(name: string, env: NodeJS.ProcessEnv): Promise<void> {
  try {
    // With --volumes: creating it made anonymous ones for the image's volumes.
    await docker(["rm", "--force", "--volumes", name], { env, signal: undefined });
  } catch (error) {
    if (!/no such container/i.test(messageOf(error))) throw error;
  }
}

function ownScope(): string {
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  return `${boot}/${readlinkSync("/proc/self/ns/pid")}`;
}

async function docker(
  args: readonly string[],
  context: { env: NodeJS.ProcessEnv; signal: AbortSignal | undefined },
  timeoutMs: number = COMMAND_TIMEOUT_MS,
): Promise<string> {
  try {
    return await runProgram("docker", args, { env: context.env, signal: context.signal, timeoutMs });
  } catch (error) {
    context.signal?.throwIfAborted();
    throw dockerError(error);
  }
}

function dockerError(error: unknown): unknown {
  if (!(error instanceof FirectlError) || error.code !== "PROCESS_FAILED") return error;
  const isDown = /cannot connect to the docker daemon|is the docker daemon running/i.test(error.message);
  return new FirectlError("DOCKER_FAILED", error.message, {
    ...(isDown ? { hint: "start the Docker Engine, or leave out docker: to pull from the registry" } : {}),
    cause: error,
  });
}

/** What a registry's configuration of the image would say. */
function imageConfigOf(inspected: Inspected): Readonly<Record<string, unknown>> {
  const given = inspected.Config ?? {};
  return Object.fromEntries(
    CONFIG_FIELDS.flatMap((name) => (given[name] == null ? [] : [[name, given[name]]])),
  );
}

function platformOf(inspected: Inspected): Platform {
  return normalise(inspected.Os, inspected.Architecture, inspected.Variant ?? undefined);
}

function isFor(inspected: Inspected, wanted: Platform): boolean {
  return platformDistance(wanted, platformOf(inspected)) !== undefined;
}

/** Only for another platform than Docker would choose: old Engines take the flag only in experimental mode. */
function platformFlag(platform: Platform): readonly string[] {
  const isHosts = platformDistance(platform, hostPlatform()) === 0;
  return isHosts ? [] : [`--platform=${formatPlatform(platform)}`];
}

function renamed({ entry, image }: SourcedImage, reference: string): SourcedImage {
  return { entry: { ...entry, reference }, image: { ...image, reference } };
}
