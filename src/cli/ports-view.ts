import type { PublishedPort } from "../manager/api.ts";

type Port = Required<PublishedPort>;

/** `80/tcp`. */
export function guestPortText({ guestPort, protocol }: Port): string {
  return `${guestPort}/${protocol}`;
}

/** `0.0.0.0:8080`. */
export function hostPortText({ hostAddress, hostPort }: Port): string {
  return `${hostAddress}:${hostPort}`;
}

/** Docker's `0.0.0.0:8080->80/tcp`, neighbours in one: `0.0.0.0:8000-8002->8000-8002/tcp`. */
export function portsText(ports: readonly Port[]): string {
  const runs: Port[][] = [];
  for (const port of [...ports].sort(inOrder)) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    if (run !== undefined && last !== undefined && follows(port, last)) run.push(port);
    else runs.push([port]);
  }
  return runs.map(runText).join(", ");
}

function inOrder(a: Port, b: Port): number {
  return (
    a.protocol.localeCompare(b.protocol) ||
    a.hostAddress.localeCompare(b.hostAddress) ||
    a.guestPort - b.guestPort ||
    a.hostPort - b.hostPort
  );
}

function follows(port: Port, before: Port): boolean {
  return (
    port.protocol === before.protocol &&
    port.hostAddress === before.hostAddress &&
    port.guestPort === before.guestPort + 1 &&
    port.hostPort === before.hostPort + 1
  );
}

function runText(run: readonly Port[]): string {
  const [first] = run;
  const last = run.at(-1);
  if (first === undefined || last === undefined) return "";
  if (first === last) return `${hostPortText(first)}->${guestPortText(first)}`;
  return `${hostPortText(first)}-${last.hostPort}->${first.guestPort}-${guestPortText(last)}`;
}
