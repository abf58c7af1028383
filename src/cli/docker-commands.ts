/**
 * Docker's commands in two words: whoever comes from docker should be told what they are called here.
 * https://docs.docker.com/reference/cli/docker/
 */
const GROUPS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  image: { ls: "images", list: "images", rm: "rmi", remove: "rmi", inspect: "inspect --type image" },
  container: { ls: "list", list: "list", ps: "list", rm: "rm", inspect: "inspect --type vm" },
  system: { df: "df", prune: "prune", info: "setup" },
};

/** What `words` of docker's is called here, given the names of our commands; undefined for what we lack. */
export function ownNameOf(words: readonly string[], names: readonly string[]): string | undefined {
  const [group = "", word = ""] = words;
  const known = Object.hasOwn(GROUPS, group) ? GROUPS[group] : undefined;
  if (known === undefined) return undefined;
  if (Object.hasOwn(known, word)) return known[word];
  return group !== "system" && names.includes(word) ? word : undefined;
}
