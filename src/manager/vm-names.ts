import { FirectlError } from "../core/errors.ts";

const ADJECTIVES = [
  "able",
  "agile",
  "amber",
  "ample",
  "azure",
  "bold",
  "brave",
  "brisk",
  "calm",
  "clear",
  "clever",
  "cosy",
  "crisp",
  "deft",
  "eager",
  "early",
  "fair",
  "fleet",
  "fond",
  "fresh",
  "gentle",
  "glad",
  "golden",
  "grand",
  "happy",
  "hardy",
  "honest",
  "keen",
  "kind",
  "lively",
  "lucid",
  "lucky",
  "mellow",
  "merry",
  "modest",
  "neat",
  "nimble",
  "noble",
  "patient",
  "plucky",
  "polite",
  "proud",
  "quick",
  "quiet",
  "ready",
  "serene",
  "sharp",
  "silver",
  "smart",
  "snug",
  "solid",
  "steady",
  "still",
  "sturdy",
  "sunny",
  "swift",
  "tidy",
  "vivid",
  "warm",
  "wise",
] as const;
const NOUNS = [
  "alder",
  "anvil",
  "aspen",
  "badger",
  "beacon",
  "birch",
  "bison",
  "brook",
  "cedar",
  "comet",
  "condor",
  "coral",
  "crane",
  "delta",
  "ember",
  "falcon",
  "fern",
  "finch",
  "firefly",
  "fjord",
  "glacier",
  "grove",
  "harbor",
  "hawk",
  "heron",
  "ibis",
  "island",
  "jay",
  "juniper",
  "kestrel",
  "lagoon",
  "lantern",
  "larch",
  "lark",
  "lynx",
  "maple",
  "marten",
  "meadow",
  "mesa",
  "moss",
  "oak",
  "orbit",
  "osprey",
  "otter",
  "pebble",
  "petrel",
  "pine",
  "plover",
  "quartz",
  "raven",
  "reef",
  "ridge",
  "robin",
  "spark",
  "spruce",
  "swift",
  "tern",
  "thistle",
  "willow",
  "wren",
] as const;

/** A name that is easy to say and to type, such as `brisk_heron`; with a number when `isTaken` insists. */
export function inventName(isTaken: (name: string) => boolean): string {
  for (let attempt = 0; ; attempt++) {
    const words = `${ADJECTIVES[below(ADJECTIVES.length)]}_${NOUNS[below(NOUNS.length)]}`;
    const name = attempt < 10 ? words : `${words}${below(10_000)}`;
    if (!isTaken(name)) return name;
  }
}

/**
 * Checks a name given by the user, by Docker's rule.
 * @throws FirectlError INVALID_ARGUMENT.
 */
export function checkName(name: string): void {
  if (/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/.test(name)) return;
  throw new FirectlError("INVALID_ARGUMENT", `"${name}" cannot be a VM's name`, {
    hint: "use letters, digits, _ . and -, starting with a letter or digit, at most 128",
  });
}

/**
 * The one record that `reference` names: by id, by name, or by a unique prefix of the id.
 * @throws FirectlError VM_NOT_FOUND, AMBIGUOUS_NAME.
 */
export function findByReference<R extends { readonly id: string; readonly name: string }>(
  records: readonly R[],
  reference: string,
): R {
  const exact = records.find(({ id, name }) => id === reference || name === reference);
  if (exact !== undefined) return exact;
  const matches = /^[0-9a-f-]+$/.test(reference) ? records.filter(({ id }) => id.startsWith(reference)) : [];
  const [first] = matches;
  if (first === undefined) {
    throw new FirectlError("VM_NOT_FOUND", `there is no VM "${reference}"`, {
      hint: "firectl list -a shows all",
    });
  }
  if (matches.length > 1) {
    throw new FirectlError("AMBIGUOUS_NAME", `"${reference}" is the beginning of ${matches.length} VM ids`, {
      hint: `write more of it: ${matches
        .map(({ id }) => id)
        .slice(0, 5)
        .join(", ")}`,
    });
  }
  return first;
}

/** Names are no secrets: whoever guesses one has only guessed a name. */
function below(bound: number): number {
  return Math.floor(Math.random() * bound);
}
