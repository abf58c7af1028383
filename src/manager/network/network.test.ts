import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import { expect, test } from "vitest";
import type { VmRecord } from "../../state/vm-record.ts";
import { claimPorts, reclaimPorts } from "./claim-ports.ts";
import { networkSettings } from "./inspect-network.ts";
import { networkModules, networkPlanOf, networkRecordAgain, networkRecordFor } from "./network-plan.ts";
import { receiveWindowSetting } from "./receive-window.ts";
import { passtArguments } from "./user-network.ts";

const LOOPBACK = "127.0.0.1";

async function takenTcp(): Promise<{ port: number } & AsyncDisposable> {
  const server = createServer().listen(0, LOOPBACK);
  await once(server, "listening");
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("no address");
  return { port: address.port, [Symbol.asyncDispose]: async () => void server.close() };
}

test("a port that nobody chose is one that is free, each another, in the order asked for", async () => {
  await using taken = await takenTcp();
  const ports = await claimPorts([
    { hostAddress: LOOPBACK, guestPort: 80 },
    { hostAddress: LOOPBACK, guestPort: 81 },
    { protocol: "udp", hostAddress: LOOPBACK, guestPort: 53 },
  ]);
  expect(ports.map(({ protocol, guestPort, ephemeral }) => [protocol, guestPort, ephemeral])).toEqual([
    ["tcp", 80, true],
    ["tcp", 81, true],
    ["udp", 53, true],
  ]);
  expect(new Set([taken.port, ports[0]?.hostPort, ports[1]?.hostPort]).size).toBe(3);
});

test("a port is claimed where it was asked for, and free again afterwards", async () => {
  const { port } = await (async () => {
    await using taken = await takenTcp();
    await expect(
      claimPorts([{ hostAddress: LOOPBACK, hostPort: taken.port, guestPort: 80 }]),
    ).rejects.toMatchObject({
      code: "PORT_IN_USE",
      message: `port ${taken.port}/tcp of 127.0.0.1 is taken`,
    });
    return { port: taken.port };
  })();
  const wanted = [{ hostAddress: LOOPBACK, hostPort: port, guestPort: 80 }];
  const expected = [{ protocol: "tcp", hostAddress: LOOPBACK, hostPort: port, guestPort: 80 }];
  expect(await claimPorts(wanted)).toEqual(expected);
  expect(await reclaimPorts(await claimPorts(wanted))).toEqual(expected);
});

test("one port cannot lead to two of the guest's", async () => {
  await using taken = await takenTcp();
  await taken[Symbol.asyncDispose]();
  const twice = [80, 81].map((guestPort) => ({ hostAddress: LOOPBACK, hostPort: taken.port, guestPort }));
  await expect(claimPorts(twice)).rejects.toMatchObject({ code: "PORT_IN_USE" });
});

test("UDP has ports of its own", async () => {
  const socket = createSocket("udp4").bind(0, LOOPBACK);
  await once(socket, "listening");
  const { port: hostPort } = socket.address();
  try {
    const port = { protocol: "udp", hostAddress: LOOPBACK, hostPort, guestPort: 53 } as const;
    await expect(claimPorts([port])).rejects.toMatchObject({ code: "PORT_IN_USE" });
  } finally {
    socket.close();
  }
});

test("an address of another host is refused", async () => {
  await expect(
    claimPorts([{ hostAddress: "203.0.113.1", hostPort: 8080, guestPort: 80 }]),
  ).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: "--publish: 203.0.113.1 is no address of this host",
  });
});

test.each([
  [{}, {}, "none"],
  [{}, { network: "user" }, "user"],
  [{ network: "none" }, { network: "user" }, "none"],
  [{ publish: [{ guestPort: 80 }] }, {}, "user"],
  [{ publishAll: true }, { network: "none" }, "user"],
  [{ network: "user", resources: { networkBytesPerSecond: 65_536 } }, {}, "user"],
  [{ resources: { networkBytesPerSecond: 0 } }, {}, "none"],
] as const)("%j with settings %j is %s", (run, settings, mode) => {
  expect(networkPlanOf(run, settings).mode).toBe(mode);
});

test.each([
  [{ network: "none", publish: [{ guestPort: 80 }] }, "--publish: no port leads to a VM with --network none"],
  [{ network: "none", publishAll: true }, "--publish: no port leads to"],
  [{ resources: { networkPacketsPerSecond: 100 } }, "--network-pps: the VM has no network to limit"],
  [{ publish: [{ guestPort: 0 }] }, "--publish: 0 is not a port"],
  [{ publish: [{ guestPort: 80, hostPort: 65_536 }] }, "--publish: 65536 is not a port"],
] as const)("%j is refused", (run, message) => {
  expect(() => networkPlanOf(run, {})).toThrow(message);
});

test("all exposed ports but those that are published anyway get one of the host's", async () => {
  const publish = [{ protocol: "tcp", hostAddress: LOOPBACK, guestPort: 80 }] as const;
  const plan = networkPlanOf({ publish, publishAll: true }, {});
  const exposed = ["80/tcp", "80/udp", "443", "8000-8001/tcp", "9/sctp", "web", "2-1", "65536"];
  const network = await networkRecordFor(plan, exposed);
  expect(network?.ports.map(({ protocol, guestPort }) => `${guestPort}/${protocol}`)).toEqual([
    ...["80/tcp", "80/udp", "443/tcp", "8000/tcp", "8001/tcp"],
  ]);
  const again = await networkRecordAgain(network);
  expect(again?.ports.map(({ guestPort }) => guestPort)).toEqual([80, 80, 443, 8000, 8001]);
});

test("an image that exposes all ports there are takes none of the host's", async () => {
  const plan = networkPlanOf({ publishAll: true }, {});
  await expect(networkRecordFor(plan, ["1-65535/tcp", "1-65535/udp"])).rejects.toThrow(
    "--publish-all: 131070 ports are more than 1000, the most",
  );
  expect((await networkRecordFor(plan, ["1-1000"]))?.ports).toHaveLength(1000);
  const publish = Array.from({ length: 1001 }, (_, index) => ({ guestPort: index + 1 }));
  expect(() => networkPlanOf({ publish }, {})).toThrow("--publish: 1001 ports are more than 1000");
});

test("without a network there is nothing on record", async () => {
  expect(await networkRecordFor(networkPlanOf({}, {}), ["80/tcp"])).toBeUndefined();
  expect(await networkRecordAgain(undefined)).toBeUndefined();
});

test("a kernel must have the driver, loadable or built in", () => {
  const network = { mode: "user", ports: [] } as const;
  const kernel = { name: "own", modules: [], builtin: ["virtio_net"] };
  expect(networkModules({ ...network, ports: [] }, kernel)).toEqual(["virtio_net"]);
  expect(networkModules(undefined, { ...kernel, builtin: [] })).toEqual([]);
  expect(() => networkModules({ ...network, ports: [] }, { ...kernel, builtin: [] })).toThrow(
    "cannot connect the VM to a network: the kernel own has no virtio_net",
  );
});

test("passt is told every port, and that there are none of a protocol", () => {
  const port = { protocol: "tcp", hostAddress: "0.0.0.0", hostPort: 8080, guestPort: 80 } as const;
  const line = passtArguments([port, { ...port, hostAddress: LOOPBACK, hostPort: 443 }]).join(" ");
  expect(line).toContain(" --no-map-gw ");
  expect(line).toMatch(/ --tcp-ports 0\.0\.0\.0\/8080:80 --tcp-ports 127\.0\.0\.1\/443:80 --udp-ports none$/);
  expect(passtArguments([{ ...port, protocol: "udp" }]).join(" ")).toMatch(
    / --tcp-ports none --udp-ports 0\.0\.0\.0\/8080:80$/,
  );
});

test("a guest that receives slowly lets little be on its way to it", () => {
  const windowAt = (bytesPerSecond: number) => receiveWindowSetting({ bytesPerSecond })["net.ipv4.tcp_rmem"];
  expect(windowAt(64 * 1024)).toBe("4096 65536 65536");
  expect(windowAt(1024 * 1024)).toBe("4096 131072 131072");
  expect(windowAt(10 * 1024 * 1024)).toBe("4096 131072 1310720");
  expect(windowAt(1024 * 1024 * 1024)).toBe("4096 131072 6291456");
  expect(receiveWindowSetting({ operationsPerSecond: 100 })).toEqual({});
  expect(receiveWindowSetting(undefined)).toEqual({});
});

test("inspect has Docker's form of it", () => {
  const port = { protocol: "tcp", hostAddress: "0.0.0.0", hostPort: 8080, guestPort: 80 } as const;
  const network = { mode: "user", ports: [port, { ...port, hostPort: 9090 }] } as const;
  const record = { state: "running", network } as unknown as VmRecord;
  expect(networkSettings(record)).toEqual({
    IPAddress: "10.0.2.15",
    IPPrefixLen: 24,
    Gateway: "10.0.2.2",
    MacAddress: "02:42:0a:00:02:0f",
    Ports: {
      "80/tcp": [
        { HostIp: "0.0.0.0", HostPort: "8080" },
        { HostIp: "0.0.0.0", HostPort: "9090" },
      ],
    },
  });
  expect(networkSettings({ ...record, state: "exited" })).toMatchObject({ IPAddress: "", Ports: {} });
});
