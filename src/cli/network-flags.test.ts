import { expect, test } from "vitest";
import type { RunOptions } from "../manager/api.ts";
import { firectl, startedVm } from "./cli.test-helper.ts";
import { portsText } from "./ports-view.ts";

async function optionsOf(...flags: readonly string[]): Promise<Partial<RunOptions>> {
  let seen: Partial<RunOptions> = {};
  const { stderr } = await firectl(["run", ...flags, "nginx"], {
    operations: {
      async run(options) {
        seen = options;
        return startedVm({});
      },
    },
  });
  expect(stderr).toBe("");
  return seen;
}

test.each([
  ["80", [{ protocol: "tcp", guestPort: 80 }]],
  ["8080:80", [{ protocol: "tcp", hostPort: 8080, guestPort: 80 }]],
  ["127.0.0.1:8080:80", [{ protocol: "tcp", hostAddress: "127.0.0.1", hostPort: 8080, guestPort: 80 }]],
  ["127.0.0.1::80", [{ protocol: "tcp", hostAddress: "127.0.0.1", guestPort: 80 }]],
  [":80", [{ protocol: "tcp", guestPort: 80 }]],
  ["5353:53/udp", [{ protocol: "udp", hostPort: 5353, guestPort: 53 }]],
  [
    "65534-65535:1-2/tcp",
    [
      { protocol: "tcp", hostPort: 65534, guestPort: 1 },
      { protocol: "tcp", hostPort: 65535, guestPort: 2 },
    ],
  ],
])("-p %s", async (text, expected) => {
  expect((await optionsOf("-p", text)).publish).toEqual(expected);
});

test.each([
  ["", "publishes no port"],
  ["0", "publishes no port"],
  ["65536", "publishes no port"],
  ["90-80", "publishes no port"],
  ["web", "publishes no port"],
  ["1:2:3:4", "publishes no port"],
  ["0:80", 'has no port of this host: "0"'],
  ["8000-8001:80", "has ranges of two lengths"],
  ["80/sctp", "is neither TCP nor UDP"],
  ["80/", "is neither TCP nor UDP"],
  ["host:8080:80", 'has no IPv4 address of this host: "host"'],
  ["[::1]:8080:80", "is an IPv6 address"],
])("-p %j is refused", async (text, message) => {
  const { status, stderr } = await firectl(["run", "-p", text, "nginx"], {});
  expect([status, stderr]).toEqual([125, expect.stringContaining(message)]);
});

test("several ports are published in the order of their flags, and -P and --network are handed on", async () => {
  expect(await optionsOf("-P", "--network", "user", "-p", "1:2", "-p", "3:4/udp")).toMatchObject({
    network: "user",
    publishAll: true,
    publish: [
      { protocol: "tcp", hostPort: 1, guestPort: 2 },
      { protocol: "udp", hostPort: 3, guestPort: 4 },
    ],
  });
});

test("docker's other networks are refused with a word on ours", async () => {
  for (const name of ["bridge", "host", "container:web"]) {
    const { status, stderr } = await firectl(["run", "--network", name, "nginx"], {});
    expect([status, stderr]).toEqual([125, expect.stringContaining("--network user lets it reach")]);
  }
});

const WEB = { protocol: "tcp", hostAddress: "0.0.0.0", hostPort: 8080, guestPort: 80 } as const;
const DNS = { protocol: "udp", hostAddress: "127.0.0.1", hostPort: 5353, guestPort: 53 } as const;

test("ports are shown as docker shows them, neighbours in one", () => {
  expect(portsText([])).toBe("");
  expect(portsText([DNS, WEB])).toBe("0.0.0.0:8080->80/tcp, 127.0.0.1:5353->53/udp");
  const range = [2, 0, 1].map((index) => ({ ...WEB, hostPort: 8000 + index, guestPort: 80 + index }));
  expect(portsText(range)).toBe("0.0.0.0:8000-8002->80-82/tcp");
  expect(portsText([WEB, { ...WEB, hostPort: 9000, guestPort: 81 }])).toBe(
    "0.0.0.0:8080->80/tcp, 0.0.0.0:9000->81/tcp",
  );
});

test("port lists them, or says where one is", async () => {
  const operations = { ports: async () => [WEB, DNS] };
  const text = async (...args: readonly string[]) =>
    (await firectl(["port", ...args], { operations })).stdout;
  expect(await text("web")).toBe("80/tcp -> 0.0.0.0:8080\n53/udp -> 127.0.0.1:5353\n");
  expect(await text("web", "80")).toBe("0.0.0.0:8080\n");
  expect(await text("web", "53/udp")).toBe("127.0.0.1:5353\n");
  expect(JSON.parse(await text("web", "80", "--json"))).toEqual([WEB]);
  const { status, stderr } = await firectl(["port", "web", "53"], { operations });
  expect([status, stderr]).toEqual([2, expect.stringContaining("53/tcp of web is not published")]);
});
