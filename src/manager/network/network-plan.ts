import { FirectlError } from "../../core/errors.ts";
import { MAX_PORT, type PortRange, parsePortRange, portsIn } from "../../core/port-range.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { NETWORK_MODULES } from "../../kernel/modules.ts";
import type { NetworkRecord } from "../../state/network-record.ts";
import type { NetworkMode, PublishedPort, RunOptions } from "../api.ts";
import { requireModules } from "../kernel-support.ts";
import type { Settings } from "../settings.ts";

/** What a VM is to have of a network. */
export interface NetworkPlan {
  readonly mode: NetworkMode;
  readonly ports: readonly PublishedPort[];
  /** Also all ports that the image exposes. */
  readonly publishAll: boolean;
}

/** Each is a socket of passt's and a word of its command line; an image may expose all that there are. */
const MAX_PUBLISHED = 1000;

/**
 * What `run` asks for: whoever publishes a port wants a network.
 * @throws FirectlError INVALID_ARGUMENT.
 */
export function networkPlanOf(
  run: Pick<RunOptions, "network" | "publish" | "publishAll" | "resources">,
  settings: Pick<Settings, "network">,
): NetworkPlan {
  const ports = run.publish ?? [];
  const publishAll = run.publishAll ?? false;
  for (const port of ports) checkPort(port);
  checkCount("--publish", ports.length);
  const publishes = ports.length > 0 || publishAll;
  if (run.network === "none" && publishes) {
    throw new FirectlError("INVALID_ARGUMENT", "--publish: no port leads to a VM with --network none", {
      hint: "leave one of the two out",
    });
  }
  const mode = run.network ?? (publishes ? "user" : (settings.network ?? "none"));
  const { networkBytesPerSecond, networkPacketsPerSecond } = run.resources ?? {};
  if (mode === "none" && (networkBytesPerSecond || networkPacketsPerSecond)) {
    const flag = networkBytesPerSecond ? "--network-bps" : "--network-pps";
    throw new FirectlError("INVALID_ARGUMENT", `${flag}: the VM has no network to limit`, {
      hint: "add --network user",
    });
  }
  return { mode, ports, publishAll };
}

function checkPort({ guestPort, hostPort }: PublishedPort): void {
  const bad = [guestPort, hostPort ?? guestPort].find(
    (port) => !(Number.isInteger(port) && port >= 1 && port <= MAX_PORT),
  );
  if (bad === undefined) return;
  throw new FirectlError(
    "INVALID_ARGUMENT",
    `--publish: ${bad} is not a port, a number from 1 to ${MAX_PORT}`,
  );
}

/**
 * What goes on record of the VM's network; undefined when it has none.
 * @param exposed The image's ExposedPorts.
 * @throws FirectlError PORT_IN_USE, PERMISSION_DENIED, INVALID_ARGUMENT.
 */
export async function networkRecordFor(
  plan: NetworkPlan,
  exposed: readonly string[],
): Promise<NetworkRecord | undefined> {
  if (plan.mode === "none") return undefined;
  const ports = requestedPorts(plan, exposed);
  // Most VMs have none, and need nothing to be loaded for it.
  if (ports.length === 0) return { mode: plan.mode, ports: [] };
  const { claimPorts } = await import("./claim-ports.ts");
  return { mode: plan.mode, ports: await claimPorts(ports) };
}

/** The same for a VM that starts again. @throws FirectlError as {@link networkRecordFor}. */
export async function networkRecordAgain(
  network: NetworkRecord | undefined,
): Promise<NetworkRecord | undefined> {
  if (network === undefined || network.ports.length === 0) return network;
  const { reclaimPorts } = await import("./claim-ports.ts");
  return { ...network, ports: await reclaimPorts(network.ports) };
}

/**
 * The ports to publish, once it is known which ones the image exposes: as in docker, those get any port that is free.
 * @throws FirectlError INVALID_ARGUMENT when they are too many.
 */
function requestedPorts(plan: NetworkPlan, exposed: readonly string[]): readonly PublishedPort[] {
  if (!plan.publishAll) return plan.ports;
  const ranges = exposed.flatMap((text) => exposedPorts(text) ?? []);
  checkCount(
    "--publish-all",
    ranges.reduce((sum, { first, last }) => sum + last - first + 1, plan.ports.length),
  );
  const isPublished = (port: PublishedPort): boolean =>
    plan.ports.some((own) => own.guestPort === port.guestPort && (own.protocol ?? "tcp") === port.protocol);
  const all = ranges.flatMap((range) =>
    portsIn(range).map((guestPort) => ({ protocol: range.protocol, guestPort })),
  );
  return [...plan.ports, ...all.filter((port) => !isPublished(port))];
}

function checkCount(flag: string, count: number): void {
  if (count <= MAX_PUBLISHED) return;
  throw new FirectlError(
    "INVALID_ARGUMENT",
    `${flag}: ${count} ports are more than ${MAX_PUBLISHED}, the most`,
    {
      hint: "-p publishes those that are needed",
    },
  );
}

interface ExposedPorts extends PortRange {
  readonly protocol: "tcp" | "udp";
}

/** `80/tcp`, `80` or `8000-8002/udp`, as an image has them; what is neither TCP's nor UDP's is left out. */
function exposedPorts(text: string): ExposedPorts | undefined {
  const [, ports = "", protocol = "tcp"] = /^([^/]*)(?:\/(tcp|udp))?$/i.exec(text) ?? [];
  const range = parsePortRange(ports);
  return range && { ...range, protocol: protocol.toLowerCase() === "udp" ? "udp" : "tcp" };
}

/**
 * The modules that a guest with this network needs besides.
 * @throws FirectlError UNSUPPORTED when the kernel lacks the driver.
 */
export function networkModules(
  network: NetworkRecord | undefined,
  kernel: Pick<Kernel, "name" | "modules" | "builtin">,
): readonly string[] {
  if (network === undefined) return [];
  return requireModules(kernel, NETWORK_MODULES, {
    cannot: "cannot connect the VM to a network",
    instead: "or run it with --network none",
  });
}
