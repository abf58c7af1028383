/** An object whose undefined properties may be missing instead. */
type Defined<T> = { [Key in keyof T]?: Exclude<T[Key], undefined> };

/** Leaves out what is undefined: options of the library are absent or real. */
export function defined<T extends object>(object: T): Defined<T> {
  const entries = Object.entries(object).filter(([, value]) => value !== undefined);
  // Only properties whose value is undefined have gone, which is what Defined says.
  return Object.fromEntries(entries) as Defined<T>;
}
