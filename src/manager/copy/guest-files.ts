import { FirectlError } from "../../core/errors.ts";
import type { GuestClient } from "../../guest/client.ts";
import { decodeCopy } from "../../guest/copy-stream.ts";
import { FileKind, type StatPathResponse } from "../../guest/gen/firectl/agent/v1/copy_pb.ts";
import type { TarContent } from "../../tar/writer.ts";
import { type CopyPath, lookedUp } from "./placement.ts";

/** What a path in a VM is. */
export interface GuestStat {
  readonly is: "directory" | "symlink" | "device" | "other";
  /** Of a symlink, where it leads; bytes in a latin1 string. */
  readonly link: string;
}

/** A VM's files, as a copy out of it reads them. */
export interface GuestFiles {
  /** What is at a path, as entries of which the first, without a path, is what it names. */
  read(path: CopyPath, options: { followLinks: boolean }): AsyncIterable<TarContent>;
}

/** The files of a running VM, through its agent. */
export function runningFiles(guest: GuestClient, signal: AbortSignal | undefined): GuestFiles {
  return {
    read: (path, { followLinks }) =>
      decodeCopy(guest.copyOut({ path: Buffer.from(lookedUp(path)), follow: followLinks }, { signal })),
  };
}

/** What is at a path, the link itself if it is one and no slash follows; undefined where there is nothing. */
export async function statInGuest(
  guest: GuestClient,
  path: CopyPath,
  signal: AbortSignal | undefined,
): Promise<GuestStat | undefined> {
  try {
    return statOf(await guest.statPath({ path: Buffer.from(lookedUp(path)), follow: false }, { signal }));
  } catch (error) {
    if (error instanceof FirectlError && error.code === "FILE_NOT_FOUND") return undefined;
    throw error;
  }
}

function statOf({ kind, link }: StatPathResponse): GuestStat {
  const text = Buffer.from(link).toString("latin1");
  switch (kind) {
    case FileKind.DIRECTORY:
      return { is: "directory", link: "" };
    case FileKind.SYMLINK:
      return { is: "symlink", link: text };
    case FileKind.CHARACTER_DEVICE:
    case FileKind.BLOCK_DEVICE:
    case FileKind.FIFO:
    case FileKind.SOCKET:
      return { is: "device", link: "" };
    default:
      return { is: "other", link: "" };
  }
}
