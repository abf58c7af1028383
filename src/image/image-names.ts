/** An image's name in the parts that tables show. */
export interface NameParts {
  /** As users write it: `nginx`, `registry.example:5000/team/app`, `docker:my-app`, `oci:/srv/layout`. */
  readonly repository: string;
  readonly tag: string | undefined;
}

/** The name as users write it: `debian:12` for `docker.io/library/debian:12`, any transport kept. */
export function familiarName(name: string): string {
  const [, transport = "", rest = name] = /^(docker:)?(?:docker\.io\/)(.*)$/s.exec(name) ?? [];
  // Docker Hub's own namespaces keep their slash, and so does what lies deeper in its library.
  const bare = /^library\/([^/]*)$/s.exec(rest)?.[1];
  return `${transport}${bare ?? rest}`;
}

/** Splits a name; a digest in it counts to neither part. */
export function nameParts(name: string): NameParts {
  const familiar = familiarName(name).replace(/@sha256:[0-9a-f]{64}$/, "");
  const colon = familiar.lastIndexOf(":");
  // A colon before the last slash is a port's or a transport's.
  const hasTag = colon > 0 && !familiar.includes("/", colon) && !isTransport(familiar.slice(0, colon));
  return hasTag
    ? { repository: familiar.slice(0, colon), tag: familiar.slice(colon + 1) }
    : { repository: familiar, tag: undefined };
}

function isTransport(text: string): boolean {
  return /^(?:docker|docker-daemon|docker-archive|oci|oci-archive|rootfs)$/.test(text);
}
