import { FirectlError } from "../../../core/errors.ts";
import type { DockerDaemonSettings } from "./docker-daemon.ts";

/** Mirrors by the registry that they stand for, `docker.io`, each a URL. */
export type MirrorSettings = Readonly<Record<string, readonly string[]>>;

/** One mirror of one repository. */
export interface Mirror {
  /** Host and port. */
  readonly domain: string;
  readonly protocol: "https:" | "http:";
  /** The repository as the mirror calls it. */
  readonly path: string;
}

/**
 * The mirrors to ask for a repository, in order: those of firectl's own configuration, or else those that
 * Docker's daemon has for Docker Hub. A mirror's path goes before the repository's name, as in podman's
 * registries.conf: `https://harbor.example/hub` has docker.io/library/debian as hub/library/debian.
 * @throws FirectlError INVALID_CONFIGURATION for a mirror that is not a web address.
 */
export function mirrorsOf(
  repository: { domain: string; path: string },
  options: { settings: MirrorSettings; docker: DockerDaemonSettings },
): readonly Mirror[] {
  const { domain, path } = repository;
  const own = Object.hasOwn(options.settings, domain) ? options.settings[domain] : undefined;
  const urls = own ?? (domain === "docker.io" ? options.docker.mirrors : []);
  return urls.map((text) => parseMirror(text, { domain, path }));
}

function parseMirror(text: string, repository: { domain: string; path: string }): Mirror {
  const address = text.includes("://") ? text : `https://${text}`;
  const url = URL.canParse(address) ? new URL(address) : undefined;
  const protocol = url?.protocol;
  const isClean = url?.username === "" && url.password === "" && url.search === "" && url.hash === "";
  if (url === undefined || (protocol !== "https:" && protocol !== "http:") || !isClean) {
    // A password may be in it, which is where none belongs.
    throw new FirectlError(
      "INVALID_CONFIGURATION",
      `a mirror of ${repository.domain} is not a plain web address: write it as in https://mirror.example:5000`,
      { hint: "credentials for it come from firectl login" },
    );
  }
  const prefix = url.pathname.replace(/^\/+|\/+$/g, "");
  return {
    domain: url.host,
    protocol,
    path: prefix === "" ? repository.path : `${prefix}/${repository.path}`,
  };
}
