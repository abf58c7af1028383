import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { runProgram } from "../../../host/process.ts";
import type { TemporaryDirectory } from "../../image.test-helper.ts";

/** A certificate and its key, as files. */
export interface TestCertificate {
  readonly certificate: string;
  readonly key: string;
}

/** An authority of the test's own, with what it has signed. Needs openssl. */
export class TestAuthority {
  readonly certificate: string;
  readonly #key: string;
  readonly #directory: TemporaryDirectory;

  private constructor(directory: TemporaryDirectory, files: TestCertificate) {
    this.#directory = directory;
    this.certificate = files.certificate;
    this.#key = files.key;
  }

  static async make(directory: TemporaryDirectory, name = "authority"): Promise<TestAuthority> {
    const files = { certificate: directory.join(`${name}.pem`), key: directory.join(`${name}.key`) };
    await runProgram("openssl", [
      ...["req", "-x509", ...EC_KEY, "-days", "2", "-subj", `/CN=${name}`],
      ...["-keyout", files.key, "-out", files.certificate],
    ]);
    return new TestAuthority(directory, files);
  }

  /** @param names As in `IP:127.0.0.1,DNS:registry.test`. */
  async sign(name: string, names = "IP:127.0.0.1,DNS:localhost"): Promise<TestCertificate> {
    const [certificate, key, request, extensions] = ["pem", "key", "csr", "ext"].map((ending) =>
      this.#directory.join(`${name}.${ending}`),
    ) as [string, string, string, string];
    await writeFile(extensions, `subjectAltName=${names}\n`);
    await runProgram("openssl", ["req", ...EC_KEY, "-subj", `/CN=${name}`, "-keyout", key, "-out", request]);
    await runProgram("openssl", [
      ...["x509", "-req", "-in", request, "-CA", this.certificate, "-CAkey", this.#key, "-days", "2"],
      ...["-CAcreateserial", "-extfile", extensions, "-out", certificate],
    ]);
    return { certificate, key };
  }
}

const EC_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** Fills the certs.d directory of a host below `parent`, as in `etc/docker/certs.d`. */
export async function writeCerts(
  parent: string,
  host: string,
  files: { authority?: TestAuthority; client?: TestCertificate },
): Promise<void> {
  const directory = path.join(parent, host);
  await mkdir(directory, { recursive: true });
  const copies = {
    "ca.crt": files.authority?.certificate,
    "client.cert": files.client?.certificate,
    "client.key": files.client?.key,
  };
  for (const [name, file] of Object.entries(copies)) {
    if (file !== undefined) await writeFile(path.join(directory, name), await readFile(file));
  }
}
