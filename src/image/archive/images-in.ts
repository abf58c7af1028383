import { FirectlError } from "../../core/errors.ts";
import type { Platform } from "../platform.ts";
import type { Archive } from "./archive.ts";
import type { ArchivedImage } from "./archived-image.ts";

/**
 * The images of an archive, of whatever kind, in its order; of one for several platforms the one for `platform`.
 * @throws FirectlError ARCHIVE_INVALID, MANIFEST_INVALID.
 */
export async function imagesIn(archive: Archive, platform: Platform): Promise<readonly ArchivedImage[]> {
  if (archive.isEmpty) throw archive.empty();
  // Docker's own archives have had both since version 25; the layout says more and has the digests.
  if (archive.find("index.json") !== undefined) {
    const { ociImages } = await import("./oci-images.ts");
    return ociImages(archive, platform);
  }
  if (archive.find("manifest.json") !== undefined) {
    const { dockerImages } = await import("./docker-images.ts");
    return dockerImages(archive);
  }
  const isAncient = archive.find("repositories") !== undefined;
  throw new FirectlError(
    "ARCHIVE_INVALID",
    `archive ${archive.label}: it has neither index.json, as OCI archives do, nor Docker's manifest.json`,
    {
      hint: isAncient
        ? "it was saved by a Docker before 1.10: load it into a newer one and save it again"
        : "for the tar of a root filesystem write rootfs:FILE, or use firectl import",
    },
  );
}
