import type { Digest } from "../core/brands.ts";
import type { ImageManifest, RawHealthCheck, RawImageConfig } from "./manifest.ts";
import { normalise, type Platform } from "./platform.ts";

/** How Docker is told to look after a container's health; durations in nanoseconds. */
export interface HealthCheck {
  /** `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", command]`. */
  readonly test: readonly string[];
  readonly intervalNs?: number;
  readonly timeoutNs?: number;
  readonly startPeriodNs?: number;
  readonly startIntervalNs?: number;
  readonly retries?: number;
}

/** What an image says about running it, https://github.com/opencontainers/image-spec/blob/main/config.md */
export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** `NAME=value` each. */
  readonly env: readonly string[];
  /** `user`, `uid`, `user:group`…; empty for root. */
  readonly user: string;
  /** Empty when the image names none. */
  readonly workingDir: string;
  readonly stopSignal: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
  /** `80/tcp` each. */
  readonly exposedPorts: readonly string[];
  readonly volumes: readonly string[];
  readonly healthcheck?: HealthCheck;
}

/** A layer, lowest first in {@link LocalImage.layers}. */
export interface LocalLayer {
  /** Of the blob as it is stored, compressed or not. */
  readonly digest: Digest;
  /** Of the uncompressed tar. */
  readonly diffId: Digest;
  readonly mediaType: string;
  /** Of the blob, in bytes. */
  readonly size: number;
}

/** An image in the local store. */
export interface LocalImage {
  /** The name in full: `docker.io/library/debian:12`, `docker:…` or `oci:/dir:tag`. */
  readonly reference: string;
  readonly manifestDigest: Digest;
  readonly configDigest: Digest;
  readonly platform: Platform;
  readonly config: ImageConfig;
  readonly layers: readonly LocalLayer[];
  /** RFC 3339, when the image was made. */
  readonly createdAt?: string;
  /** Of manifest, configuration and layers as stored. */
  readonly sizeBytes: number;
}

/** Puts together what the store knows of an image; manifest and configuration have been checked before. */
export function describeImage(
  identity: { reference: string; manifestDigest: Digest; manifestSize: number; platform: Platform },
  manifest: ImageManifest,
  config: RawImageConfig,
): LocalImage {
  const layers = manifest.layers.map((layer, index) => ({
    digest: layer.digest,
    // The counts were compared when the configuration was parsed.
    diffId: config.rootfs.diff_ids[index] ?? layer.digest,
    mediaType: layer.mediaType,
    size: layer.size,
  }));
  const sizes = [identity.manifestSize, manifest.config.size, ...layers.map((layer) => layer.size)];
  return {
    reference: identity.reference,
    manifestDigest: identity.manifestDigest,
    configDigest: manifest.config.digest,
    platform: identity.platform,
    config: describeConfig(config),
    layers,
    ...(config.created == null ? {} : { createdAt: config.created }),
    sizeBytes: sizes.reduce((sum, size) => sum + size, 0),
  };
}

/** The platform that a configuration names; this machine's where it names none, as Docker takes it. */
export function platformOfConfig(config: RawImageConfig): Platform {
  return normalise(config.os || "linux", config.architecture || process.arch, config.variant);
}

function describeConfig(raw: RawImageConfig): ImageConfig {
  const config = raw.config;
  const health = config?.Healthcheck;
  return {
    entrypoint: config?.Entrypoint ?? [],
    cmd: config?.Cmd ?? [],
    env: config?.Env ?? [],
    user: config?.User ?? "",
    workingDir: config?.WorkingDir ?? "",
    stopSignal: config?.StopSignal || undefined,
    labels: config?.Labels ?? {},
    exposedPorts: config?.ExposedPorts ?? [],
    volumes: config?.Volumes ?? [],
    ...(health == null ? {} : { healthcheck: describeHealth(health) }),
  };
}

function describeHealth(health: RawHealthCheck): HealthCheck {
  return {
    test: health.Test,
    ...(health.Interval == null ? {} : { intervalNs: health.Interval }),
    ...(health.Timeout == null ? {} : { timeoutNs: health.Timeout }),
    ...(health.StartPeriod == null ? {} : { startPeriodNs: health.StartPeriod }),
    ...(health.StartInterval == null ? {} : { startIntervalNs: health.StartInterval }),
    ...(health.Retries == null ? {} : { retries: health.Retries }),
  };
}
