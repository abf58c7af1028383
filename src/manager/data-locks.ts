import path from "node:path";
import { makePrivateDirectory } from "../host/files.ts";
import type { Context } from "./context.ts";

/** Where the locks lie of what is in the data directory, but for those of the images and the volumes. */
export function dataLocksDirectory(context: Context): string {
  return path.join(context.directories.data, "locks");
}

/**
 * The lock called `name` of something in the data directory, for `withFileLock` and `tryFileLock`. It lies in that
 * directory itself: users of one may have several run-time directories, as sessions of one user do.
 */
export async function dataLock(context: Context, name: string): Promise<string> {
  const directory = dataLocksDirectory(context);
  await makePrivateDirectory(directory);
  return path.join(directory, `${name}.lock`);
}
