import v8 from "node:v8";

/**
 * Has V8 leave garbage alone until there is much of it. What a download allocates makes it mark the whole heap some
 * thirty times a gigabyte otherwise, on threads that are missing for unpacking; it frees a few MiB each time.
 * For a process that is about to work with images and then end.
 */
export function collectGarbageLater(): void {
  v8.setFlagsFromString("--no-incremental-marking");
}
