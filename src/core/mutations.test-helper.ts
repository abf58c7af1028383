import fc from "fast-check";

/*
 * Damage for fuzz tests: of bytes, and of documents. A mutation is small data, so that a failing case can be read.
 */

/** One change of some bytes; places are fractions, so that they fit any length. */
export interface Mutation {
  readonly kind: "flip" | "byte" | "word-le" | "word-be" | "copy" | "remove" | "repeat" | "cut" | "text";
  readonly at: number;
  readonly from: number;
  readonly length: number;
  readonly value: number;
  readonly text: string;
}

const WORDS = [
  0, 1, 2, 0x7f, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
];

/** Changes that are likely to be taken for something. */
export const mutations: fc.Arbitrary<Mutation[]> = fc.array(
  fc.record({
    kind: fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom("flip", "byte", "word-le", "word-be", "copy") },
      fc.constantFrom("remove", "repeat", "cut", "text"),
    ) as fc.Arbitrary<Mutation["kind"]>,
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    from: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.integer({ min: 1, max: 600 }),
    value: fc.oneof(fc.constantFrom(...WORDS), fc.nat(), fc.nat(255)),
    text: fc.constantFrom("../", "/", "\0", "-1", "99999999999", "\xff\xfe", "\n", "1e9", ".wh.", "7777777"),
  }),
  { minLength: 1, maxLength: 6 },
);

/** A damaged copy. `places` are the offsets that may be changed, all unless given. */
export function mutate(bytes: Buffer, changes: readonly Mutation[], places?: readonly number[]): Buffer {
  let result: Buffer = Buffer.from(bytes);
  for (const change of changes) result = mutateOnce(result, change, places);
  return result;
}

function mutateOnce(bytes: Buffer, change: Mutation, places: readonly number[] | undefined): Buffer {
  const place = (fraction: number) => {
    const chosen = places?.[Math.floor(fraction * (places.length - 1))];
    return Math.min(chosen ?? Math.floor(fraction * bytes.length), Math.max(0, bytes.length - 1));
  };
  const at = place(change.at);
  const from = place(change.from);
  switch (change.kind) {
    case "flip":
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (change.value % 8));
      return bytes;
    case "byte":
      bytes[at] = change.value & 0xff;
      return bytes;
    case "word-le":
      if (at + 4 <= bytes.length) bytes.writeUInt32LE(change.value >>> 0, at & ~3);
      return bytes;
    case "word-be":
      if (at + 4 <= bytes.length) bytes.writeUInt32BE(change.value >>> 0, at & ~3);
      return bytes;
    case "copy":
      bytes.copy(bytes, at, from, from + change.length);
      return bytes;
    case "text":
      bytes.write(change.text, at, "latin1");
      return bytes;
    case "remove":
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + change.length)]);
    case "repeat":
      return Buffer.concat([
        bytes.subarray(0, at),
        bytes.subarray(at, at + change.length),
        bytes.subarray(at),
      ]);
    case "cut":
      return Buffer.from(bytes.subarray(0, at));
  }
}

/** A value of JSON that nobody expects, sometimes as deep as JSON can be. */
const surprise: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    ...[null, true, -1, 0, 1.5, 1e308, 2 ** 53, "", "\0", "../../etc/passwd", "sha256:", [], {}, [[]]],
    "x".repeat(100_000),
    Object.create(null),
    { __proto__: { polluted: true } },
    JSON.parse(`${"[".repeat(3000)}${"]".repeat(3000)}`),
    JSON.parse('{"__proto__": {"mediaType": "x"}, "constructor": 1}'),
  ),
  fc.jsonValue(),
);

/** Damage of a document: values replaced by surprises, fields removed or added. */
export interface DocumentChange {
  readonly path: readonly number[];
  readonly kind: "replace" | "remove" | "add";
  readonly value: unknown;
}

export const documentChanges: fc.Arbitrary<DocumentChange[]> = fc.array(
  fc.record({
    path: fc.array(fc.nat(20), { maxLength: 4 }),
    kind: fc.constantFrom("replace" as const, "replace" as const, "remove" as const, "add" as const),
    value: surprise,
  }),
  { minLength: 1, maxLength: 4 },
);

/** A damaged copy of a document. */
export function damage(document: unknown, changes: readonly DocumentChange[]): unknown {
  let result: unknown = structuredClone(document);
  for (const { path, kind, value } of changes) result = damageAt(result, path, { kind, value });
  return result;
}

function damageAt(
  target: unknown,
  path: readonly number[],
  change: { readonly kind: DocumentChange["kind"]; readonly value: unknown },
): unknown {
  const [step, ...rest] = path;
  if (typeof target !== "object" || target === null || step === undefined) return change.value;
  const keys = Object.keys(target);
  const key = keys[step % Math.max(1, keys.length)];
  if (rest.length === 0 && change.kind === "add") {
    if (Array.isArray(target)) return [...target, change.value];
    return { ...target, [`added${step}`]: change.value };
  }
  if (key === undefined) return target;
  if (rest.length === 0 && change.kind === "remove") {
    if (Array.isArray(target)) return target.filter((_, index) => String(index) !== key);
    return Object.fromEntries(Object.entries(target).filter(([name]) => name !== key));
  }
  const changed = damageAt(Reflect.get(target, key), rest, change);
  if (Array.isArray(target))
    return target.map((each: unknown, index) => (String(index) === key ? changed : each));
  return { ...target, [key]: changed };
}
