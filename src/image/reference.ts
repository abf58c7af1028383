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

/** Where an image is to be taken from. */
export type ImageLocation =
  | { readonly transport: "store" | "registry" | "docker"; readonly reference: ImageReference }
  | { readonly transport: "oci"; readonly directory: string; readonly tag: string | undefined };

const HOST_LABEL = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const DOMAIN = new RegExp(`^(?:${HOST_LABEL}(?:\\.${HOST_LABEL})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]{1,5})?$`);
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^\w[\w.-]{0,127}$/;

/** Longest domain and path together, as the reference grammar has it. */
const MAX_NAME_LENGTH = 255;
/** A name, a tag of 128, a digest of 71 and their separators fit in far less. */
const MAX_REFERENCE_LENGTH = 1024;
/** PATH_MAX of Linux. */
const MAX_DIRECTORY_LENGTH = 4096;

/**
 * Reads where an image is to be taken from: `REF` (the local store, then its registry), `docker://REF` (its
 * registry), `docker:REF` (the Docker Engine), `oci:DIR[:TAG]` (an OCI image layout).
 * @throws FirectlError INVALID_REFERENCE.
 */
export function parseImageLocation(text: string): ImageLocation {
  if (text.startsWith("docker://")) {
    return { transport: "registry", reference: parseReference(text.slice("docker://".length)) };
  }
  if (text.startsWith("docker:")) return parseDockerLocation(text);
  if (text.startsWith("oci:")) return parseOciLocation(text.slice("oci:".length), text);
  return { transport: "store", reference: parseReference(text) };
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

function parseDockerLocation(text: string): ImageLocation {
  return { transport: "docker", reference: parseReference(text.slice("docker:".length)) };
}

function parseOciLocation(rest: string, text: string): ImageLocation {
  if (rest.includes("\0")) throw invalid(text, "it has a NUL byte");
  if (rest.length > MAX_DIRECTORY_LENGTH) throw invalid(text, `it is longer than ${MAX_DIRECTORY_LENGTH}`);
  // Like skopeo: the directory ends at the first colon.
  const colon = rest.indexOf(":");
  const directory = colon === -1 ? rest : rest.slice(0, colon);
  const tag = colon === -1 ? undefined : rest.slice(colon + 1);
  if (directory === "") throw invalid(text, "no directory is named after oci:");
  if (tag === "") throw invalid(text, "the tag after the directory is empty");
  return { transport: "oci", directory, tag };
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
    hint: "write NAME[:TAG][@DIGEST], docker://NAME, docker:NAME or oci:DIR[:TAG]",
  });
}
