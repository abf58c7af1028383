const SECRET_NAME = "(password|passwd|token|identitytoken|secret)";
/** Not the end of a path, /etc/passwd, nor of a longer word. */
const NAME_BEGINS = "(?<![\\w./-])";
const VALUE = "[^\\s\"'&,;]+";

/** `password=x`, which no name of an image or VM can hold, and the quoted pair of JSON. */
const ASSIGNED = new RegExp(`${NAME_BEGINS}${SECRET_NAME}(["']?\\s*=\\s*["']?)${VALUE}`, "gi");
const QUOTED = new RegExp(`${NAME_BEGINS}${SECRET_NAME}(["']\\s*:\\s*["'])${VALUE}`, "gi");
/** As those, and `password: x`, which could also be a name and its tag or what is said of it. */
const NAMED = new RegExp(`${NAME_BEGINS}${SECRET_NAME}(["']?\\s*[=:]\\s*["']?)${VALUE}`, "gi");

/**
 * Removes from a message what by its shape can only be a secret, and no word of firectl's nor anything that a
 * user may call an image: user:password in URLs, Authorization values, values of password= and the like.
 */
export function redactCredentials(text: string): string {
  return (
    text
      // docker://nginx@sha256:… has a digest behind its at sign, and no host.
      .replace(/([a-z][a-z0-9+.-]*:\/\/)[^\s/@]+@(?!sha256:[0-9a-f]{64}\b)/gi, "$1***@")
      .replace(/\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}/gi, "$1 ***")
      .replace(ASSIGNED, "$1$2***")
      .replace(QUOTED, "$1$2***")
  );
}

/**
 * As {@link redactCredentials} for what a server or another program says, which may quote a secret in any form.
 * @param asked What it was asked about: an echo of that tells nothing new.
 */
export function redactForeign(text: string, asked: readonly string[] = []): string {
  const redacted = text.replace(NAMED, (match, name: string, separator: string) =>
    asked.some((word) => word.includes(match)) ? match : `${name}${separator}***`,
  );
  return redactCredentials(redacted);
}
