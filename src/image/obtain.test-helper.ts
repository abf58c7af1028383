import { Images } from "./images.ts";

// A process of its own that obtains one image and prints its manifest's digest; argv: store, reference.
const [root = "", reference = ""] = process.argv.slice(2);
const images = new Images({ root, env: process.env, firstRetryDelayMs: 2 });
const image = await images.obtain(reference, { pull: "missing" });
process.stdout.write(image.manifestDigest);
