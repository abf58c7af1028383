/**
 * Names below which anybody can have one of their own: what two hosts share there says nothing. The list of
 * all of them is long and changes weekly (https://publicsuffix.org); these are the ones where registries live.
 */
const SHARED_BY_STRANGERS = new Set([
  "amazonaws.com",
  "azurecr.io",
  "azurewebsites.net",
  "cloudfront.net",
  "github.io",
  "gitlab.io",
  "herokuapp.com",
  "pkg.dev",
  "run.app",
  "windows.net",
]);
/** `co.uk`, `com.au`. */
const SECOND_LEVEL = /^(?:ac|co|com|edu|go|gob|gov|gv|mil|ne|net|or|org)\.[a-z]{2}$/;

/**
 * Whether a token server is the registry's own: the same host, or a neighbour under the same parent
 * (auth.docker.io for registry-1.docker.io, gitlab.com for registry.gitlab.com). Another one gets no
 * credentials, whatever the registry says; CVE-2020-15157 is about what comes of that.
 */
export function isSameSite(realm: string, registry: string): boolean {
  if (realm === registry) return true;
  const isAddress = /^[\d.]+$|:/.test(realm) || /^[\d.]+$|:/.test(registry);
  if (isAddress) return false;
  const shared = commonSuffix(realm.split("."), registry.split("."));
  if (shared.length < 2 || SECOND_LEVEL.test(shared.join("."))) return false;
  // However far below such a name the two part: "a.run.app" is every customer's too.
  return !shared.some((_label, at) => SHARED_BY_STRANGERS.has(shared.slice(at).join(".")));
}

function commonSuffix(a: readonly string[], b: readonly string[]): readonly string[] {
  let count = 0;
  while (count < a.length && count < b.length && a.at(-1 - count) === b.at(-1 - count)) count++;
  return a.slice(a.length - count);
}
