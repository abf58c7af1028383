import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import { errnoOf, FirectlError, messageOf } from "../../core/errors.ts";
import { CleanupStack } from "../../host/cleanup.ts";
import type { PortRecord } from "../../state/network-record.ts";
import type { PublishedPort } from "../api.ts";

/** All addresses of the host, as docker has it. */
const EVERY_ADDRESS = "0.0.0.0";

/**
 * Gives every port of the guest one of the host's: the one that was asked for, or any that is free. All of them are
 * held at once and then let go: passt(1), which is told of them next, takes no sockets that are open already.
 * @throws FirectlError PORT_IN_USE, PERMISSION_DENIED, INVALID_ARGUMENT, each naming the port.
 */
export async function claimPorts(ports: readonly PublishedPort[]): Promise<PortRecord[]> {
  await using claims = new CleanupStack();
  const records = new Map<PublishedPort, PortRecord>();
  // Those with a number first, lest it is given to another.
  const order = [...ports].sort(
    (a, b) => Number(a.hostPort === undefined) - Number(b.hostPort === undefined),
  );
  for (const port of order) {
    const { protocol = "tcp", hostAddress = EVERY_ADDRESS, hostPort, guestPort } = port;
    const claim = claims.use(await claimPort({ protocol, hostAddress, hostPort: hostPort ?? 0 }));
    records.set(port, {
      protocol,
      hostAddress,
      hostPort: claim.port,
      guestPort,
      ...(hostPort === undefined ? { ephemeral: true } : {}),
    });
  }
  return ports.flatMap((port) => records.get(port) ?? []);
}

/** The same again for a VM that starts again. @throws FirectlError as {@link claimPorts}. */
export async function reclaimPorts(ports: readonly PortRecord[]): Promise<PortRecord[]> {
  return claimPorts(
    ports.map(({ ephemeral, hostPort, ...port }) => (ephemeral ? port : { ...port, hostPort })),
  );
}

interface HostPort {
  readonly protocol: "tcp" | "udp";
  readonly hostAddress: string;
  readonly hostPort: number;
}

interface Claim extends AsyncDisposable {
  readonly port: number;
}

async function claimPort(wanted: HostPort): Promise<Claim> {
  try {
    return wanted.protocol === "tcp" ? await claimTcp(wanted) : await claimUdp(wanted);
  } catch (error) {
    throw claimError(wanted, error);
  }
}

async function claimTcp({ hostAddress, hostPort }: HostPort): Promise<Claim> {
  const server = createServer((connection) => connection.destroy());
  server.listen({ host: hostAddress, port: hostPort, exclusive: true });
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : hostPort;
  return {
    port,
    [Symbol.asyncDispose]: async () => {
      server.close();
      await once(server, "close");
    },
  };
}

async function claimUdp({ hostAddress, hostPort }: HostPort): Promise<Claim> {
  const socket = createSocket("udp4");
  socket.bind({ address: hostAddress, port: hostPort, exclusive: true });
  await once(socket, "listening");
  const { port } = socket.address();
  return {
    port,
    [Symbol.asyncDispose]: async () => {
      socket.close();
      await once(socket, "close");
    },
  };
}

function claimError({ protocol, hostAddress, hostPort }: HostPort, error: unknown): Error {
  const port = hostPort === 0 ? `a ${protocol} port` : `port ${hostPort}/${protocol}`;
  const place = `${port} of ${hostAddress === EVERY_ADDRESS ? "this host" : hostAddress}`;
  switch (errnoOf(error)) {
    case "EADDRINUSE":
      return new FirectlError("PORT_IN_USE", `${place} is taken`, {
        hint: `publish another one, or see who has it: firectl list, ss -lnp "sport = ${hostPort}"`,
        cause: error,
      });
    case "EACCES":
      return new FirectlError("PERMISSION_DENIED", `${place} is root's`, {
        hint: `publish one above 1023, or let everybody have it: sysctl -w net.ipv4.ip_unprivileged_port_start=${hostPort}`,
        cause: error,
      });
    case "EADDRNOTAVAIL":
      return new FirectlError("INVALID_ARGUMENT", `--publish: ${hostAddress} is no address of this host`, {
        hint: "ip -brief address shows them",
        cause: error,
      });
    default:
      return new FirectlError("IO_FAILED", `cannot listen on ${place}: ${messageOf(error)}`, {
        cause: error,
      });
  }
}
