/**
 * Docker's commands in two words: whoever comes from docker should be told what they are called here.
 * https://docs.docker.com/reference/cli/docker/
 */
const GROUPS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  image: { ls: "images", list: "images", rm: "rmi", remove: "rmi", inspect: "inspect --type image" },
  container: { ls: "list", list: "list", ps: "list", rm: "rm", inspect: "inspect --type vm" },
  system: { df: "df", prune: "prune", info: "setup" },
};

const NO_CLUSTER = "there is neither a daemon nor a cluster: every VM is one of this machine";
const ELSEWHERE = "images are made elsewhere: docker build, then firectl run docker:NAME";

/** Docker's commands that firectl lacks, with what to do instead. */
const INSTEAD: Readonly<Record<string, string>> = {
  build: ELSEWHERE,
  builder: ELSEWHERE,
  buildx: ELSEWHERE,
  commit: "firectl export VM | firectl import - NAME makes an image of a VM's files",
  compose: "start the VMs one by one, each with firectl run -d",
  config: NO_CLUSTER,
  context: NO_CLUSTER,
  create: "firectl run -d makes a VM and starts it",
  diff: "firectl export VM | tar tv lists all files of a VM",
  events: "no daemon watches: firectl wait VM waits for its end, firectl list -a shows all",
  history: "firectl inspect --type image IMAGE has it under History",
  info: "firectl setup checks this machine, firectl df shows what is stored",
  manifest: "firectl pull chooses the platform, or takes --platform",
  network: "no network is shared by VMs: firectl run --network user, -p publishes ports",
  node: NO_CLUSTER,
  pause: "a VM cannot be held: firectl stop --keep VM, then firectl start VM, keeps its disk",
  plugin: NO_CLUSTER,
  push: "firectl save IMAGE | docker load, then docker push IMAGE",
  rename: "a VM is named when it is made: firectl run --name NAME",
  search: "look at the registry's own site, then firectl pull NAME",
  secret: NO_CLUSTER,
  service: NO_CLUSTER,
  stack: NO_CLUSTER,
  swarm: NO_CLUSTER,
  trust: "digests are always checked: firectl pull NAME@sha256:... takes one image only",
  unpause: "a VM cannot be held: firectl stop --keep VM, then firectl start VM, keeps its disk",
};

/** What `words` of docker's is called here, given the names of our commands; undefined for what we lack. */
export function ownNameOf(words: readonly string[], names: readonly string[]): string | undefined {
  const [group = "", word = ""] = words;
  const known = Object.hasOwn(GROUPS, group) ? GROUPS[group] : undefined;
  if (known === undefined) return undefined;
  if (Object.hasOwn(known, word)) return known[word];
  return group !== "system" && names.includes(word) ? word : undefined;
}

/** A command of docker's that we lack, as `words` name it, and what to do instead. */
export function lackedCommand(
  words: readonly string[],
): { readonly name: string; readonly instead: string } | undefined {
  const [first = "", second = ""] = words;
  const word = Object.hasOwn(GROUPS, first) ? second : first;
  const instead = Object.hasOwn(INSTEAD, word) ? INSTEAD[word] : undefined;
  return instead === undefined ? undefined : { name: word === first ? first : `${first} ${second}`, instead };
}
