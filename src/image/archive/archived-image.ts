import type { Digest } from "../../core/brands.ts";
import { FirectlError } from "../../core/errors.ts";
import { type BlobOrigin, copyImage } from "../sources/copy-image.ts";
import type { SourceContext, SourcedImage } from "../sources/source.ts";
import type { Archive } from "./archive.ts";

/** Where the blobs of one image of an archive come from. */
export interface ArchivedBlobs {
  readonly origin: BlobOrigin;
  /** The member with that blob, for errors. */
  memberOf(digest: string): string | undefined;
}

/** One image of an archive. */
export interface ArchivedImage {
  /** The names that the archive gives it, in full. */
  readonly names: readonly string[];
  /** Whether `known` is this very image. */
  isSame(known: SourcedImage): Promise<boolean>;
  open(context: SourceContext): Promise<ArchivedBlobs>;
}

/**
 * Brings one image of an archive into the store, under `reference`.
 * @throws FirectlError of kind image, naming archive and member.
 */
export async function bringArchived(
  archive: Archive,
  options: { image: ArchivedImage; reference: string; context: SourceContext },
): Promise<SourcedImage> {
  const { image, reference, context } = options;
  const blobs = await image.open(context);
  try {
    return await copyImage(blobs.origin, reference, context);
  } catch (error) {
    throw named(error, { archive, blobs });
  }
}

/** Says in which member the blob lies that an error is about. */
function named(error: unknown, options: { archive: Archive; blobs: ArchivedBlobs }): unknown {
  if (!(error instanceof FirectlError) || error.code !== "DIGEST_MISMATCH") return error;
  const digest = /sha256:[0-9a-f]{64}/.exec(error.message)?.[0];
  const member = digest === undefined ? undefined : options.blobs.memberOf(digest);
  const where = member === undefined ? `archive ${options.archive.label}` : options.archive.what(member);
  return new FirectlError("DIGEST_MISMATCH", `${where}: ${error.message}`, { cause: error });
}

/** The bytes of a member that is a blob of a known size. */
export async function* readBlob(
  archive: Archive,
  blob: { member: string; size: number; digest: Digest; offset: number; signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  const file = archive.require(blob.member);
  if (file.size !== blob.size) {
    throw new FirectlError(
      "DIGEST_MISMATCH",
      `${archive.what(blob.member)}: it has ${file.size} bytes, ${blob.size} were announced`,
    );
  }
  yield* file.read({ offset: blob.offset, signal: blob.signal });
}
