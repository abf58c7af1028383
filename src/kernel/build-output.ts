import path from "node:path";
import * as z from "zod";
import { FirectlError } from "../core/errors.ts";
import { readTextIfPresent } from "../host/files.ts";
import type { KernelSource } from "./import-kernel.ts";

/** The manifest that `kernel/build.sh` writes beside a kernel. */
const BUILD_MANIFEST_FILE = "manifest.json";

const WORD = /^[A-Za-z0-9][\w.+-]{0,63}$/;
const HEX = /^[0-9a-f]+$/;

const buildManifest = z.object({
  firectlKernel: z.literal(1),
  name: z.string().regex(WORD),
  key: z.string().regex(HEX),
  image: z.enum(["vmlinux", "Image"]),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** Nothing is a module: such a kernel would come with the modules' own tree. */
  modules: z.array(z.never()),
  features: z.array(z.string().regex(WORD)).max(256),
});

/** A kernel that was built, ready to be installed. */
export interface BuiltKernel extends KernelSource {
  readonly name: string;
}

/**
 * Reads the directory that a build has made.
 * @throws FirectlError FILE_NOT_FOUND when it has no manifest, INVALID_ARGUMENT when that is not one.
 */
export async function readBuildOutput(directory: string): Promise<BuiltKernel> {
  const file = path.join(directory, BUILD_MANIFEST_FILE);
  const text = await readTextIfPresent(file);
  if (text === undefined) {
    throw new FirectlError(
      "FILE_NOT_FOUND",
      `${directory} holds no built kernel: it has no ${BUILD_MANIFEST_FILE}`,
      {
        hint: "give the kernel's file, or the directory that kernel/build.sh has made",
      },
    );
  }
  const { name, key, image, sha256, features } = parse(text, file);
  return { name, image: path.join(directory, image), sha256, features, buildKey: key };
}

function parse(text: string, file: string): z.infer<typeof buildManifest> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FirectlError("INVALID_ARGUMENT", `${file} is not JSON`, { cause });
  }
  const result = buildManifest.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = issue?.path.join(".") || "the manifest";
  throw new FirectlError("INVALID_ARGUMENT", `${file}: ${where}: ${issue?.message ?? "is not as expected"}`);
}
