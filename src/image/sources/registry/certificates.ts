import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import tls from "node:tls";
import { errnoOf, FirectlError, messageOf } from "../../../core/errors.ts";
import { ioError } from "../../../host/files.ts";

/** What a certs.d directory says of one host, all in PEM. */
export interface HostCertificates {
  readonly directory: string;
  /** Certificates of authorities that vouch for the host, beside the usual ones. */
  readonly authorities: readonly string[];
  /** What the host is shown to know us by. */
  readonly clients: readonly { readonly certificate: string; readonly key: string }[];
}

export interface CertificateOptions {
  readonly env: NodeJS.ProcessEnv;
  /** `/etc`. */
  readonly etcDirectory: string;
}

/**
 * Finds the certs.d directory of a host, `HOST[:PORT]` with `*.crt`, `*.cert` and `*.key`, where podman and
 * Docker look for it; the first that is there counts. Each host is looked up once.
 * https://github.com/containers/image/blob/main/docs/containers-certs.d.5.md
 * https://docs.docker.com/engine/security/certificates/
 * @throws FirectlError INVALID_CONFIGURATION for a certificate without its key, a key without its certificate,
 *   or what is neither; PERMISSION_DENIED.
 */
export function certificateFinder(
  options: CertificateOptions,
): (host: string) => HostCertificates | undefined {
  const parents = certsDirectories(options);
  const found = new Map<string, HostCertificates | undefined>();
  return (host) => {
    if (!found.has(host)) found.set(host, findFor(host, parents));
    return found.get(host);
  };
}

function certsDirectories({ env, etcDirectory }: CertificateOptions): readonly string[] {
  const home = env["HOME"];
  const configHome = env["XDG_CONFIG_HOME"] || (home ? path.join(home, ".config") : undefined);
  return [
    ...(configHome === undefined
      ? []
      : // The second is that of a Docker daemon which runs without root.
        [path.join(configHome, "containers/certs.d"), path.join(configHome, "docker/certs.d")]),
    // Docker Desktop's.
    ...(home ? [path.join(home, ".docker/certs.d")] : []),
    path.join(etcDirectory, "containers/certs.d"),
    path.join(etcDirectory, "docker/certs.d"),
  ];
}

function findFor(host: string, parents: readonly string[]): HostCertificates | undefined {
  if (/^\.{0,2}$|[/\0]/.test(host)) return undefined;
  for (const parent of parents) {
    const directory = path.join(parent, host);
    const names = namesIn(directory);
    if (names !== undefined) return readDirectory(directory, names);
  }
  return undefined;
}

/** The names in order, undefined where there is no such directory or it is not for us. */
function namesIn(directory: string): readonly string[] | undefined {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EACCES"].includes(errnoOf(error) ?? "")) return undefined;
    throw ioError(`cannot read ${directory}`, error);
  }
}

function readDirectory(directory: string, names: readonly string[]): HostCertificates {
  const authorities = names
    .filter((name) => name.endsWith(".crt"))
    .map((name) => readAuthority(path.join(directory, name)));
  const clients = names
    .filter((name) => name.endsWith(".cert"))
    .map((name) => readClient(directory, name.slice(0, -".cert".length), names));
  const lone = names.find((name) => name.endsWith(".key") && !names.includes(`${name.slice(0, -4)}.cert`));
  if (lone !== undefined) {
    throw new FirectlError(
      "INVALID_CONFIGURATION",
      `${path.join(directory, lone)} is a key without its client certificate ${lone.slice(0, -4)}.cert`,
      { hint: "a client certificate's name ends in .cert; what ends in .crt is an authority's" },
    );
  }
  return { directory, authorities, clients };
}

function readAuthority(file: string): string {
  const text = readPem(file);
  if (!/-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----/.test(text)) {
    throw new FirectlError("INVALID_CONFIGURATION", `${file} has no certificate in PEM`);
  }
  return text;
}

function readClient(
  directory: string,
  name: string,
  names: readonly string[],
): { certificate: string; key: string } {
  const file = path.join(directory, `${name}.cert`);
  if (!names.includes(`${name}.key`)) {
    throw new FirectlError(
      "INVALID_CONFIGURATION",
      `${file} is a client certificate without its key ${name}.key`,
      {
        hint: "an authority's certificate must have a name that ends in .crt",
      },
    );
  }
  const pair = { certificate: readPem(file), key: readPem(path.join(directory, `${name}.key`)) };
  try {
    tls.createSecureContext({ cert: pair.certificate, key: pair.key });
  } catch (error) {
    throw new FirectlError(
      "INVALID_CONFIGURATION",
      `${file} and ${name}.key are not a certificate in PEM and its key: ${messageOf(error)}`,
      { cause: error },
    );
  }
  return pair;
}

function readPem(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw ioError(`cannot read ${file}`, error);
  }
}
