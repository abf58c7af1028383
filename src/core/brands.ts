/** Strings that have been validated; each is made only by the parser of the module that owns its form. */
declare const brand: unique symbol;
type Brand<Base, Name extends string> = Base & { readonly [brand]: Name };

/** `sha256:` and 64 lower-case hexadecimal digits, https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests */
export type Digest = Brand<string, "Digest">;
/** A UUID v4 in lower case. */
export type VmId = Brand<string, "VmId">;

const DIGEST = /^sha256:[0-9a-f]{64}$/;

/** Returns `value` as a digest, or undefined when it is not a SHA-256 digest. */
export function parseDigest(value: string): Digest | undefined {
  return DIGEST.test(value) ? (value as Digest) : undefined;
}

const VM_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** Returns `value` as a VM id, or undefined when it is not a UUID v4 in lower case. */
export function parseVmId(value: string): VmId | undefined {
  return VM_ID.test(value) ? (value as VmId) : undefined;
}

/** The 64 hexadecimal digits of a digest. */
export function digestHex(digest: Digest): string {
  return digest.slice("sha256:".length);
}
