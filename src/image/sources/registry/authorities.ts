import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import tls from "node:tls";

/** Where distributions keep the authorities that programs trust, as Go's programs look for them. */
const SYSTEM_FILES = [
  "ssl/certs/ca-certificates.crt",
  "pki/tls/certs/ca-bundle.crt",
  "ssl/ca-bundle.pem",
  "pki/tls/cacert.pem",
  "pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "ssl/cert.pem",
];

/**
 * Every authority that this machine's user trusts, in PEM: Node's own, those of SSL_CERT_FILE and SSL_CERT_DIR
 * or else the system's, and those of NODE_EXTRA_CA_CERTS. Reading and parsing them takes tens of
 * milliseconds, so it is done only once Node's own do not do. Files that cannot be read count as empty, as
 * they do for Go and for Node.
 */
export async function allAuthorities(options: {
  env: NodeJS.ProcessEnv;
  etcDirectory: string;
}): Promise<readonly string[]> {
  const { env } = options;
  const [file, directories, extra] = [env["SSL_CERT_FILE"], env["SSL_CERT_DIR"], env["NODE_EXTRA_CA_CERTS"]];
  const named = await Promise.all([
    ...(file ? [read(file)] : []),
    ...(directories ?? "").split(":").filter(Boolean).map(readDirectory),
  ]);
  const usual = file || directories ? named : [await firstOf(systemFiles(options.etcDirectory))];
  const texts = [...usual, ...(extra ? [await read(extra)] : [])];
  return [...tls.rootCertificates, ...texts.filter((text) => text !== "")];
}

function systemFiles(etcDirectory: string): readonly string[] {
  return SYSTEM_FILES.map((name) => path.join(etcDirectory, name));
}

async function firstOf(files: readonly string[]): Promise<string> {
  for (const file of files) {
    const text = await read(file);
    if (text !== "") return text;
  }
  return "";
}

async function readDirectory(directory: string): Promise<string> {
  const names = await readdir(directory).catch(() => []);
  return (await Promise.all(names.map((name) => read(path.join(directory, name))))).join("\n");
}

function read(file: string): Promise<string> {
  return readFile(file, "utf8").catch(() => "");
}
