import { readFileSync, statSync } from "node:fs";
import { sha256Hex } from "../core/sha256.ts";
import { ioError, readTextIfPresent, writeFileAtomic } from "../host/files.ts";

/** Answers that hold for as long as the host is not booted again and the files they are about stay the same. */
interface Answers {
  readonly bootId: string;
  readonly answers: Readonly<Record<string, unknown>>;
}

/**
 * A key for an answer about `files`: other files, or other contents of them, have another one.
 * @throws FirectlError IO_FAILED, PERMISSION_DENIED when one of them cannot be looked at.
 */
export function answerKey(question: string, files: readonly string[]): string {
  let text = question;
  for (const file of files) {
    try {
      const { dev, ino, size, mtimeNs } = statSync(file, { bigint: true });
      text += `\0${file}\0${dev}\0${ino}\0${size}\0${mtimeNs}`;
    } catch (error) {
      throw ioError(`cannot look at ${file}`, error);
    }
  }
  return sha256Hex(text);
}

/** What `file` remembers under `key`, or undefined. A file that cannot be read remembers nothing. */
export async function recall(file: string, key: string): Promise<unknown> {
  return (await readAnswers(file)).answers[key];
}

/** Adds an answer to `file`. The caller holds the file's lock. */
export async function remember(file: string, key: string, answer: unknown): Promise<void> {
  const { bootId, answers } = await readAnswers(file);
  await writeFileAtomic(file, `${JSON.stringify({ bootId, answers: { ...answers, [key]: answer } })}\n`);
}

async function readAnswers(file: string): Promise<Answers> {
  const bootId = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  const nothing = { bootId, answers: {} };
  let value: unknown;
  try {
    value = JSON.parse((await readTextIfPresent(file)) ?? "");
  } catch {
    return nothing;
  }
  if (typeof value !== "object" || value === null) return nothing;
  if (!("bootId" in value) || value.bootId !== bootId || !("answers" in value)) return nothing;
  const { answers } = value;
  return typeof answers === "object" && answers !== null ? { bootId, answers: { ...answers } } : nothing;
}
