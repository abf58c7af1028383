import { existsSync } from "node:fs";
import path from "node:path";
import { type Digest, parseDigest } from "../core/brands.ts";
import { FirectlError } from "../core/errors.ts";

/**
 * An image name as the containers world writes it,
 * https://github.com/distribution/reference/blob/main/reference.go:
 *
 *     reference := [domain "/"] path [":" tag] ["@" digest]
 *     domain    := host [":" port]        host with a dot, a port or an upper-case letter, or "localhost"
 *     path      := component ("/" component)*
 */
export interface ImageReference {
  /** The registry: host and optional port, `docker.io` when none is written. */
  readonly domain: string;
  /** The repository within the registry, `library/…` for a bare name on Docker Hub. */
  readonly path: string;
  /** `latest` when neither tag nor digest is written. */
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

/** Where an image is to be taken from; paths as they were written. */
export type ImageLocation =
  | { readonly transport: "store" | "registry" | "docker"; readonly reference: ImageReference }
  | LayoutLocation
  | DockerArchiveLocation
  /** A directory, a tar, or `-` for a tar on standard input. */
  | { readonly transport: "rootfs"; readonly path: string };

/** An OCI image layout, a directory or the archive of one. */
export interface LayoutLocation {
  readonly transport: "oci" | "oci-archive";
  readonly path: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

/** An archive as `docker save` writes it. */
export interface DockerArchiveLocation {
  readonly transport: "docker-archive";
  readonly path: string;
  /** Which image is meant: a name, or its position; undefined for the only one. */
  readonly image: ImageReference | number | undefined;
  /** {@link image} as it was written. */
  readonly suffix: string | undefined;
}

const HOST_LABEL = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const DOMAIN = new RegExp(`^(?:${HOST_LABEL}(?:\\.${HOST_LABEL})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]{1,5})?$`);
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^\w[\w.-]{0,127}$/;

/** Longest domain and path together, as the reference grammar has it. */
const MAX_NAME_LENGTH = 255;
/** A name, a tag of 128, a digest of 71 and their separators fit in far less. */
const MAX_REFERENCE_LENGTH = 1024;
/** `sha256:` and 64 digits. */
const DIGEST_LENGTH = 71;
/** PATH_MAX of Linux. */
const MAX_PATH_LENGTH = 4096;

/**
 * Reads where an image is to be taken from:
 *
 *     REF                              the local store, then its registry
 *     docker://REF                     its registry
 *     docker:REF, docker-daemon:REF    the Docker Engine
 *     docker-archive:FILE[:REF]        a file of docker save; :@N is its image number N, counted from 0
 *     oci:DIR[:TAG][@DIGEST]           an OCI image layout
 *     oci-archive:FILE[:TAG][@DIGEST]  the tar of one
 *     rootfs:DIR, rootfs:TAR, rootfs:- a root filesystem without a configuration
 *
 * Paths end at the first colon, as skopeo's do, unless there is a file with a longer name.
 * @throws FirectlError INVALID_REFERENCE.
 */
export function parseImageLocation(text: string): ImageLocation {
  if (text.startsWith("docker://")) {
    return { transport: "registry", reference: parseReference(text.slice("docker://".length)) };
  }
  const colon = text.indexOf(":");
  const transport = text.slice(0, Math.max(0, colon));
  const rest = text.slice(colon + 1);
  switch (transport) {
    case "docker":
    case "docker-daemon":
      return { transport: "docker", reference: parseReference(rest) };
    case "docker-archive":
      return parseDockerArchive(rest, text);
    case "oci":
    case "oci-archive":
      return parseLayout(transport, rest, text);
    case "rootfs":
      checkPath(rest, text);
      if (rest === "") throw invalid(text, "no directory or file is named after rootfs:");
      return { transport, path: rest };
    default:
      if (/^[a-z][a-z0-9-]*$/.test(transport) && /^\.{0,2}\//.test(rest)) {
        throw invalid(text, `there is no transport ${show(`${transport}:`)}`);
      }
      if (/^\.{0,2}\//.test(text)) {
        throw invalid(
          text,
          "a file or directory needs rootfs:, oci:, oci-archive: or docker-archive: before it",
        );
      }
      return { transport: "store", reference: parseReference(text) };
  }
}

/** The name under which the store keeps what comes from there; paths are made absolute. */
export function locationName(location: ImageLocation): string {
  switch (location.transport) {
    case "store":
    case "registry":
      return normalisedReference(location.reference);
    case "docker":
      return `docker:${normalisedReference(location.reference)}`;
    case "docker-archive": {
      const { suffix } = location;
      return `docker-archive:${path.resolve(location.path)}${suffix === undefined ? "" : `:${suffix}`}`;
    }
    case "oci":
    case "oci-archive": {
      const { tag, digest } = location;
      const selector = `${tag === undefined ? "" : `:${tag}`}${digest === undefined ? "" : `@${digest}`}`;
      return `${location.transport}:${path.resolve(location.path)}${selector}`;
    }
    case "rootfs":
      return `rootfs:${location.path === "-" ? "-" : path.resolve(location.path)}`;
  }
}

/**
 * Reads an image name, filling in `docker.io`, `library/` and `latest` as Docker does.
 * @throws FirectlError INVALID_REFERENCE.
 */
export function parseReference(text: string): ImageReference {
  if (text.length === 0) throw invalid(text, "it is empty");
  if (text.length > MAX_REFERENCE_LENGTH) throw invalid(text, `it is longer than ${MAX_REFERENCE_LENGTH}`);
  const { name: nameAndTag, digest } = splitDigest(text);
  const { name, tag } = splitTag(nameAndTag, text);
  if (parseDigest(`sha256:${name}`) !== undefined) {
    throw invalid(text, "64 hexadecimal digits are an image id, not a name");
  }
  const { domain, path } = splitDomain(name);
  if (!DOMAIN.test(domain)) throw invalid(text, `${show(domain)} is not a registry's host and port`);
  if (path.length === 0) throw invalid(text, "no repository is named");
  if (domain.length + 1 + path.length > MAX_NAME_LENGTH) {
    throw invalid(text, `the name is longer than ${MAX_NAME_LENGTH} characters`);
  }
  for (const component of path.split("/")) {
    if (!COMPONENT.test(component)) throw invalid(text, componentProblem(component));
  }
  return { domain, path, tag: tag ?? (digest === undefined ? "latest" : undefined), digest };
}

/**
 * Reads a name that an image may be given, and returns its full form.
 * @throws FirectlError INVALID_REFERENCE; INVALID_ARGUMENT for one with a transport or a digest.
 */
export function parsePlainName(text: string): string {
  const location = parseImageLocation(text);
  if (location.transport === "store" && location.reference.digest === undefined) {
    return normalisedReference(location.reference);
  }
  throw new FirectlError("INVALID_ARGUMENT", `"${text}" cannot be given to an image as its name`, {
    hint: "write NAME[:TAG]",
  });
}

/** The full form, by which images are known in the store: `docker.io/library/debian:12`. */
export function normalisedReference(reference: ImageReference): string {
  const tag = reference.tag === undefined ? "" : `:${reference.tag}`;
  const digest = reference.digest === undefined ? "" : `@${reference.digest}`;
  return `${reference.domain}/${reference.path}${tag}${digest}`;
}

/** The short form, as users write it: `debian:12`. */
export function familiarReference(reference: ImageReference): string {
  const full = normalisedReference(reference);
  for (const prefix of ["docker.io/library/", "docker.io/"]) {
    const rest = full.startsWith(prefix) ? full.slice(prefix.length) : undefined;
    // Docker Hub's own namespaces keep their slash: "docker.io/a/b" is "a/b", but "docker.io/library/a/b" is not.
    if (rest !== undefined && (prefix === "docker.io/" || !rest.includes("/"))) return rest;
  }
  return full;
}

function parseDockerArchive(rest: string, text: string): DockerArchiveLocation {
  const { file, suffix } = splitPath(rest, text);
  if (file === "") throw invalid(text, "no file is named after docker-archive:");
  if (suffix === "") throw invalid(text, "the image's name after the file is empty");
  return { transport: "docker-archive", path: file, image: archivedImage(suffix, text), suffix };
}

function archivedImage(suffix: string | undefined, text: string): ImageReference | number | undefined {
  if (suffix === undefined) return undefined;
  if (!suffix.startsWith("@")) return parseReference(suffix);
  const position = /^@\d{1,6}$/.test(suffix) ? Number(suffix.slice(1)) : undefined;
  if (position === undefined) throw invalid(text, `${show(suffix)} is not the number of an image`);
  return position;
}

function parseLayout(transport: "oci" | "oci-archive", rest: string, text: string): LayoutLocation {
  const digest = parseDigest(rest.slice(-DIGEST_LENGTH));
  const hasDigest = digest !== undefined && rest.at(-DIGEST_LENGTH - 1) === "@";
  const { file, suffix } = splitPath(hasDigest ? rest.slice(0, -DIGEST_LENGTH - 1) : rest, text);
  const what = transport === "oci" ? "directory" : "file";
  if (file === "") throw invalid(text, `no ${what} is named after ${transport}:`);
  if (suffix === "") throw invalid(text, `the tag after the ${what} is empty`);
  return { transport, path: file, tag: suffix, digest: hasDigest ? digest : undefined };
}

/** The longest path that is there, and what follows its colon; up to the first colon when none is. */
function splitPath(rest: string, text: string): { file: string; suffix: string | undefined } {
  checkPath(rest, text);
  const first = rest.indexOf(":");
  for (let end = rest.length; end > first; end = rest.lastIndexOf(":", end - 1)) {
    if (existsSync(rest.slice(0, end))) return cutAt(rest, end);
  }
  return cutAt(rest, first === -1 ? rest.length : first);
}

function cutAt(rest: string, end: number): { file: string; suffix: string | undefined } {
  return { file: rest.slice(0, end), suffix: end === rest.length ? undefined : rest.slice(end + 1) };
}

function checkPath(rest: string, text: string): void {
  if (rest.includes("\0")) throw invalid(text, "it has a NUL byte");
  if (rest.length > MAX_PATH_LENGTH) throw invalid(text, `it is longer than ${MAX_PATH_LENGTH}`);
}

function splitDigest(text: string): { name: string; digest: Digest | undefined } {
  const at = text.indexOf("@");
  if (at === -1) return { name: text, digest: undefined };
  const digest = parseDigest(text.slice(at + 1));
  if (digest === undefined) {
    throw invalid(text, `${show(text.slice(at + 1))} is not a digest: expected sha256: and 64 hex digits`);
  }
  return { name: text.slice(0, at), digest };
}

function splitTag(nameAndTag: string, text: string): { name: string; tag: string | undefined } {
  // A colon before the last slash belongs to a port.
  const colon = nameAndTag.lastIndexOf(":");
  if (colon === -1 || nameAndTag.indexOf("/", colon) !== -1) return { name: nameAndTag, tag: undefined };
  const tag = nameAndTag.slice(colon + 1);
  if (!TAG.test(tag)) throw invalid(text, `${show(tag)} is not a tag`);
  return { name: nameAndTag.slice(0, colon), tag };
}

function splitDomain(name: string): { domain: string; path: string } {
  const slash = name.indexOf("/");
  const first = slash === -1 ? "" : name.slice(0, slash);
  const isDomain =
    first === "localhost" || first.includes(".") || first.includes(":") || first !== first.toLowerCase();
  const written = isDomain ? first : "docker.io";
  const rest = isDomain ? name.slice(slash + 1) : name;
  const domain = written === "index.docker.io" ? "docker.io" : written;
  return { domain, path: domain === "docker.io" && !rest.includes("/") ? `library/${rest}` : rest };
}

function componentProblem(component: string): string {
  if (component === "") return "a part of the name is empty";
  if (component !== component.toLowerCase()) return `${show(component)} must be in lower case`;
  return `${show(component)} is not a valid part of a name`;
}

/** Quoted and cut, with control characters escaped: the text is the user's, or hostile. */
function show(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}

function invalid(text: string, why: string): FirectlError {
  return new FirectlError("INVALID_REFERENCE", `${show(text)} is not an image reference: ${why}`, {
    hint: "write NAME[:TAG][@DIGEST], docker://NAME, docker:NAME, docker-archive:FILE, oci:DIR[:TAG], oci-archive:FILE or rootfs:DIR-or-TAR",
  });
}
