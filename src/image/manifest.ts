import * as z from "zod";
import { type Digest, parseDigest } from "../core/brands.ts";
import { FirectlError } from "../core/errors.ts";
import { isImageConfig, isIndex, isManifest, isSchema1, layerCompression } from "./media-types.ts";

/**
 * Manifests, indexes and image configurations, read from bytes that a registry or a file gave: bounded,
 * strict where firectl depends on it, and blind to what it does not use.
 * https://github.com/opencontainers/image-spec/blob/main/manifest.md
 * https://github.com/opencontainers/image-spec/blob/main/config.md
 */

/** Registries refuse manifests of more than 4 MiB, and so do containerd and Docker. */
export const MAX_MANIFEST_BYTES: number = 4 * 1024 * 1024;
const MAX_CONFIG_BYTES: number = 8 * 1024 * 1024;
/** Docker itself stops at 127 layers; BuildKit's images may have more. */
const MAX_LAYERS = 1024;
const MAX_INDEX_ENTRIES = 4096;

const digestSchema = z.string().transform((text, context): Digest => {
  const digest = parseDigest(text);
  if (digest !== undefined) return digest;
  context.addIssue({
    code: "custom",
    message: `${JSON.stringify(text.slice(0, 80))} is not a sha256 digest`,
  });
  return z.NEVER;
});

const stringMap = z.record(z.string(), z.string());
const platformSchema = z.object({
  os: z.string(),
  architecture: z.string(),
  variant: z.string().optional(),
});
const descriptorSchema = z.object({
  mediaType: z.string().max(255),
  digest: digestSchema,
  size: z.int().nonnegative(),
  platform: platformSchema.nullish(),
  annotations: stringMap.nullish(),
});

const manifestSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  config: descriptorSchema,
  layers: z.array(descriptorSchema).max(MAX_LAYERS),
});

const indexSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  manifests: z.array(descriptorSchema).max(MAX_INDEX_ENTRIES),
});

/** Go writes an absent list or map as null. */
const strings = z
  .array(z.string())
  .nullish()
  .transform((list) => list ?? []);
const keys = z
  .record(z.string(), z.unknown())
  .nullish()
  .transform((map) => Object.keys(map ?? {}));
const text = z
  .string()
  .nullish()
  .transform((value) => value ?? "");
const optionalInt = z.int().nonnegative().nullish();

const runConfigSchema = z.object({
  User: text,
  ExposedPorts: keys,
  Env: strings,
  Entrypoint: strings,
  Cmd: strings,
  Volumes: keys,
  WorkingDir: text,
  Labels: stringMap.nullish().transform((map) => map ?? {}),
  StopSignal: text,
  Healthcheck: z
    .object({
      Test: strings,
      Interval: optionalInt,
      Timeout: optionalInt,
      StartPeriod: optionalInt,
      StartInterval: optionalInt,
      Retries: optionalInt,
    })
    .nullish(),
});

const configSchema = z.object({
  created: z.string().nullish(),
  os: text,
  architecture: text,
  variant: text,
  config: runConfigSchema.nullish(),
  rootfs: z.object({ type: z.literal("layers"), diff_ids: z.array(digestSchema).max(MAX_LAYERS) }),
});

/** https://github.com/opencontainers/image-spec/blob/main/descriptor.md; sizes in bytes. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly platform?:
    | { readonly os: string; readonly architecture: string; readonly variant?: string | undefined }
    | null
    | undefined;
  readonly annotations?: Readonly<Record<string, string>> | null | undefined;
}

export interface ImageManifest {
  readonly config: Descriptor;
  /** Lowest first. */
  readonly layers: readonly Descriptor[];
}

interface ImageIndex {
  readonly manifests: readonly Descriptor[];
}

/** The image configuration as it is written, Go's names kept. */
export interface RawImageConfig {
  readonly created?: string | null | undefined;
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
  readonly config?: RawRunConfig | null | undefined;
  readonly rootfs: { readonly diff_ids: readonly Digest[] };
}

interface RawRunConfig {
  readonly User: string;
  readonly ExposedPorts: readonly string[];
  readonly Env: readonly string[];
  readonly Entrypoint: readonly string[];
  readonly Cmd: readonly string[];
  readonly Volumes: readonly string[];
  readonly WorkingDir: string;
  readonly Labels: Readonly<Record<string, string>>;
  readonly StopSignal: string;
  readonly Healthcheck?: RawHealthCheck | null | undefined;
}

/** Durations in nanoseconds. */
export interface RawHealthCheck {
  readonly Test: readonly string[];
  readonly Interval?: number | null | undefined;
  readonly Timeout?: number | null | undefined;
  readonly StartPeriod?: number | null | undefined;
  readonly StartInterval?: number | null | undefined;
  readonly Retries?: number | null | undefined;
}

export type ParsedManifest =
  | { readonly kind: "manifest"; readonly mediaType: string; readonly manifest: ImageManifest }
  | { readonly kind: "index"; readonly mediaType: string; readonly index: ImageIndex };

/**
 * Reads a manifest or an index. `mediaType` is what the registry's header or the descriptor said; undefined
 * when nothing did.
 * @param what Names it in errors, e.g. `the manifest of docker.io/library/debian:12`.
 * @throws FirectlError MANIFEST_INVALID.
 */
export function parseManifest(
  bytes: Uint8Array,
  options: { mediaType?: string; what: string },
): ParsedManifest {
  const value = parseJson(bytes, { what: options.what, maxBytes: MAX_MANIFEST_BYTES });
  const inside = fieldOf(value, "mediaType");
  const mediaType = chooseMediaType(value, { inside, outside: options.mediaType, what: options.what });
  if (isIndex(mediaType)) {
    return { kind: "index", mediaType, index: check(indexSchema, value, options.what) };
  }
  const manifest = check(manifestSchema, value, options.what);
  checkImageManifest(manifest, options.what);
  return { kind: "manifest", mediaType, manifest };
}

/**
 * Reads an image configuration and checks that it has one diff_id for each layer.
 * @throws FirectlError MANIFEST_INVALID.
 */
export function parseImageConfig(
  bytes: Uint8Array,
  options: { layerCount: number; what: string },
): RawImageConfig {
  const value = parseJson(bytes, { what: options.what, maxBytes: MAX_CONFIG_BYTES });
  const config = check(configSchema, value, options.what);
  const count = config.rootfs.diff_ids.length;
  if (count !== options.layerCount) {
    throw invalid(options.what, `it names ${count} layers, its manifest ${options.layerCount}`);
  }
  return config;
}

function chooseMediaType(
  value: unknown,
  options: { inside: unknown; outside: string | undefined; what: string },
): string {
  const { inside, outside, what } = options;
  // CVE-2021-41190: a document that is both index and manifest means one thing here and another elsewhere.
  if (fieldOf(value, "manifests") !== undefined && fieldOf(value, "layers") !== undefined) {
    throw invalid(what, "it has both manifests and layers");
  }
  const named = typeof inside === "string" ? inside : undefined;
  const generic = outside === undefined || !(isIndex(outside) || isManifest(outside) || isSchema1(outside));
  if (named !== undefined && !generic && named !== outside) {
    throw invalid(what, `it calls itself ${named.slice(0, 80)} but was announced as ${outside}`);
  }
  const guessed = fieldOf(value, "manifests") === undefined ? "manifest" : "index";
  const mediaType = named ?? (generic ? `application/vnd.oci.image.${guessed}.v1+json` : (outside ?? ""));
  if (isSchema1(mediaType) || fieldOf(value, "schemaVersion") === 1) {
    throw invalid(what, "it is in Docker's schema 1, which is long obsolete; the image must be pushed again");
  }
  if (!isIndex(mediaType) && !isManifest(mediaType)) {
    throw invalid(what, `its media type ${mediaType.slice(0, 80)} is not that of an image`);
  }
  return mediaType;
}

function checkImageManifest(manifest: ImageManifest, what: string): void {
  if (!isImageConfig(manifest.config.mediaType)) {
    throw invalid(
      what,
      `it is not a container image but an artifact: its configuration is ${manifest.config.mediaType}`,
    );
  }
  if (manifest.config.size > MAX_CONFIG_BYTES) {
    throw invalid(
      what,
      `its configuration has ${manifest.config.size} bytes, at most ${MAX_CONFIG_BYTES} are read`,
    );
  }
  for (const layer of manifest.layers) {
    if (layerCompression(layer.mediaType) === undefined) {
      throw invalid(what, `its layer ${layer.digest} is of the unknown type ${layer.mediaType}`);
    }
  }
}

function parseJson(bytes: Uint8Array, options: { what: string; maxBytes: number }): unknown {
  if (bytes.byteLength > options.maxBytes) {
    throw invalid(options.what, `it has ${bytes.byteLength} bytes, at most ${options.maxBytes} are read`);
  }
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw invalid(options.what, "it is not JSON in UTF-8", error);
  }
}

function fieldOf(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return undefined;
  return Reflect.get(value, name);
}

function check<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const place =
    issue === undefined || issue.path.length === 0 ? "" : `${issue.path.join(".").slice(0, 80)}: `;
  throw invalid(what, `${place}${issue?.message ?? "unreadable"}`);
}

function invalid(what: string, why: string, cause?: unknown): FirectlError {
  return new FirectlError(
    "MANIFEST_INVALID",
    `${what} is not valid: ${why}`,
    cause === undefined ? {} : { cause },
  );
}
