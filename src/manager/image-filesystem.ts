import { mark } from "../core/trace.ts";
import type { LocalImage } from "../image/images.ts";
import type { PullPolicy } from "./api.ts";
import { sweepUnfinishedBases } from "./base-files.ts";
import { type BaseImage, type BaseOptions, obtainBaseImage } from "./base-image.ts";
import type { Context } from "./context.ts";
import { reportPull } from "./pull-progress.ts";
import { limitsOf } from "./settings.ts";
import { inStage } from "./stage.ts";

/** Limits are those of the settings for what is not given. */
export interface ImageFilesystemOptions extends Omit<BaseOptions, "open"> {
  readonly pull: PullPolicy;
  /** `os/arch[/variant]`; this machine's unless given. */
  readonly platform?: string | undefined;
}

export interface ImageFilesystem {
  readonly image: LocalImage;
  readonly base: BaseImage;
  /** Until all of the image was here; building begins meanwhile. */
  readonly pullMs: number;
  /** From then until the filesystem was there; undefined when there was nothing to build. */
  readonly buildMs: number | undefined;
}

/**
 * An image and its filesystem, which is built while the layers come in.
 * @throws FirectlError naming the stage: those of `Images.obtain` and of `buildRootfs`.
 */
export async function obtainImageFilesystem(
  context: Context,
  reference: string,
  options: ImageFilesystemOptions,
): Promise<ImageFilesystem> {
  const images = await context.images();
  const { signal, onProgress } = options;
  const reportTo = reportPull(onProgress);
  const [obtaining, building] = [
    `obtaining image ${reference}`,
    `building the root filesystem of ${reference}`,
  ];
  const baseOptions = {
    writableBytes: options.writableBytes,
    limits: limitsOf(context.settings, options.limits),
    signal,
    onProgress,
  };
  let early: BaseImage | undefined;
  let buildFailure: unknown;
  const startedAt = performance.now();
  let pulledAt = startedAt;
  const image = await images
    .obtain(reference, {
      pull: options.pull,
      platform: options.platform,
      signal,
      onProgress: (event) => {
        if (event.type === "layer-done" || event.type === "layer-exists") pulledAt = performance.now();
        reportTo(event);
      },
      whileLayersCome: async (coming, open, untilFailure) => {
        try {
          // A killed pull has no record by which it would be mended.
          await sweepUnfinishedBases(context);
          early = await obtainBaseImage(context, coming, { ...baseOptions, open, signal: untilFailure });
        } catch (error) {
          // A layer that fails to come, or an interruption, ends the building too and is not its failure.
          if (!untilFailure.aborted) buildFailure = error;
          throw error;
        }
      },
    })
    .catch((error: unknown) =>
      inStage(error === buildFailure ? building : obtaining, () => Promise.reject(error)),
    );
  if (early === undefined) pulledAt = performance.now();
  mark("image");
  const base = await inStage(building, () => obtainBaseImage(context, image, baseOptions));
  const built = early?.built === true || base.built;
  return {
    image,
    base: { ...base, built },
    pullMs: pulledAt - startedAt,
    buildMs: built ? performance.now() - pulledAt : undefined,
  };
}
