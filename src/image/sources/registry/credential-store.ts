import { chown, realpath, stat } from "node:fs/promises";
import path from "node:path";
import { errnoOf, FirectlError } from "../../../core/errors.ts";
import {
  exists,
  ioError,
  makePrivateDirectory,
  readTextIfPresent,
  writeFileAtomic,
} from "../../../host/files.ts";
import {
  askHelper,
  eraseFromHelper,
  type HelperOptions,
  helperProgram,
  storeInHelper,
} from "./credential-helper.ts";
import { type Credentials, helperFor, isKeyOf, loginFile, parseFile, serverKey } from "./credentials.ts";

export interface StoredIn {
  /** The helper's program or the file. */
  readonly place: string;
  /** Whether whoever reads that file has the secret. */
  readonly isPlain: boolean;
}

/** A credential file as it is, with what firectl does not know of. */
type RawFile = Record<string, unknown>;

/**
 * Keeps a login as Docker does: in the helper that the file names for the registry, or else in the file.
 * @param login The user belongs to an identity token too, in a file.
 * @throws FirectlError INVALID_CONFIGURATION for a file that is no credential file: it is left as it is;
 *   TOOL_MISSING or PROCESS_FAILED of the helper; those of a file that cannot be written.
 */
export async function storeLogin(
  domain: string,
  login: { username: string; credentials: Credentials },
  options: HelperOptions,
): Promise<StoredIn> {
  const file = loginFile(options.env);
  const raw = await readRaw(file);
  const { username, credentials } = login;
  const helper = helperFor(parsedOf(raw, file), { domain, path: "" });
  const serverUrl = serverKey(domain);
  if (helper !== undefined) await storeInHelper(helper, { serverUrl, credentials }, options);
  const password = credentials.kind === "password" ? credentials.password : "";
  const secrets = {
    auth: Buffer.from(`${username}:${password}`, "utf8").toString("base64"),
    ...(credentials.kind === "identity-token" ? { identitytoken: credentials.token } : {}),
  };
  // With a helper an empty entry stays, from which Docker knows what the helper has.
  const auths = { ...withoutKeysOf(raw, domain), [serverUrl]: helper === undefined ? secrets : {} };
  await writeRaw(file, { ...raw, auths });
  return helper === undefined
    ? { place: file, isPlain: true }
    : { place: helperProgram(helper), isPlain: false };
}

/**
 * Forgets the login for a registry, where {@link storeLogin} would keep it.
 * @returns Where there was one.
 */
export async function eraseLogin(domain: string, options: HelperOptions): Promise<readonly string[]> {
  const file = loginFile(options.env);
  const raw = await readRaw(file);
  const helper = helperFor(parsedOf(raw, file), { domain, path: "" });
  const places: string[] = [];
  if (helper !== undefined && (await askHelper(helper, serverKey(domain), options)) !== undefined) {
    await eraseFromHelper(helper, serverKey(domain), options);
    places.push(helperProgram(helper));
  }
  const before = authsOf(raw);
  const auths = withoutKeysOf(raw, domain);
  const removed = Object.keys(before).filter((key) => !Object.hasOwn(auths, key));
  if (removed.length > 0) {
    await writeRaw(file, { ...raw, auths });
    // Docker's mark of what a helper has is no login.
    if (removed.some((key) => JSON.stringify(before[key]) !== "{}")) places.push(file);
  }
  return places;
}

async function readRaw(file: string): Promise<RawFile> {
  const text = await readTextIfPresent(file);
  if (text === undefined || text.trim() === "") return {};
  parseFile(text, file);
  // The schema has just found it to be an object.
  return JSON.parse(text) as RawFile;
}

function parsedOf(raw: RawFile, file: string): ReturnType<typeof parseFile> {
  return parseFile(JSON.stringify(raw), file);
}

function authsOf(raw: RawFile): Record<string, unknown> {
  // As the schema has it: an object or nothing.
  return (raw["auths"] ?? {}) as Record<string, unknown>;
}

function withoutKeysOf(raw: RawFile, domain: string): Record<string, unknown> {
  return Object.fromEntries(Object.entries(authsOf(raw)).filter(([key]) => !isKeyOf(key, domain)));
}

/** Replaces the file, or what a link at its place leads to; it stays its owner's. */
async function writeRaw(file: string, raw: RawFile): Promise<void> {
  if (!(await exists(path.dirname(file)))) await makePrivateDirectory(path.dirname(file));
  const target = await targetOf(file);
  try {
    const owner = await stat(target).catch(() => undefined);
    // Docker's own indentation.
    await writeFileAtomic(target, `${JSON.stringify(raw, undefined, "\t")}\n`, { mode: 0o600 });
    const isOwn = owner === undefined || owner.uid === process.getuid?.();
    if (!isOwn) await chown(target, owner.uid, owner.gid);
  } catch (error) {
    throw ioError(`cannot write ${target}`, error);
  }
}

async function targetOf(file: string): Promise<string> {
  try {
    return await realpath(file);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return file;
    throw ioError(`cannot look at ${file}`, error);
  }
}

/** @throws FirectlError INVALID_ARGUMENT for a user name or password that no registry can be told. */
export function checkLogin(login: { username: string; password: string }): void {
  if (login.username === "" || /[:\0\r\n]/.test(login.username)) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      "a user name must not be empty, nor have a colon or a line break",
    );
  }
  if (login.password === "" || /[\0\r\n]/.test(login.password)) {
    throw new FirectlError("INVALID_ARGUMENT", "a password must not be empty, nor have a line break");
  }
}
