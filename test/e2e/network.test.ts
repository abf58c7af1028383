import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Backend, onEveryBackend } from "./support/backends.ts";
import { type CallOptions, type Finished, IMAGES, Sandbox } from "./support/firectl.ts";
import {
  FAR_ADDRESS,
  FAR_NAME,
  FAR_PORT,
  NEAR_ADDRESS,
  serve,
  startNetwork,
  type TestNetwork,
} from "./support/network.ts";
import { run } from "./support/run.ts";

/** Has nginx and curl. */
const DEBIAN = `oci:${IMAGES}/nginx`;
/** Is busybox. */
const BUSYBOX = `oci:${IMAGES}/layers`;
const SOON = { timeout: 120_000, interval: 500 };
const FAR = `http://${FAR_ADDRESS}:${FAR_PORT}`;
const MIB = 1024 * 1024;

const notRoot = process.getuid?.() === 0 ? undefined : "network namespaces are root's";

describe.skipIf(notRoot !== undefined)(
  `on a host of its own${notRoot ? ` (skipped: ${notRoot})` : ""}`,
  () => {
    onEveryBackend("the network", theNetwork);
  },
);

function theNetwork(vmm: Backend): void {
  let network: TestNetwork;
  let sandbox: Sandbox;
  beforeAll(async () => {
    network = await startNetwork();
    sandbox = await Sandbox.create({}, network.near);
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
    await network[Symbol.asyncDispose]();
  });
  const from = (machine: readonly string[], ...command: readonly string[]): Promise<string> => {
    const [program = "", ...args] = [...machine, ...command];
    return run(program, args);
  };

  /** A VM that goes when it ends. */
  const once = (words: readonly string[], options: CallOptions = {}): Promise<Finished> =>
    sandbox.call(["run", "--rm", "--vmm", vmm, ...words], options);
  /** What a server says, which may take a moment to come up. */
  const page = (machine: readonly string[], url: string): Promise<string> =>
    from(machine, "curl", "-s", "-m", "20", "--retry", "60", "--retry-delay", "1", "--retry-all-errors", url);

  describe("of a web server", () => {
    beforeAll(async () => {
      await sandbox.ok([
        ...["run", "-d", "--vmm", vmm, "--name", "web", "-h", "web"],
        ...["-p", "8080:80", "-p", "127.0.0.1::80", "-p", "5353:53/udp", DEBIAN],
      ]);
    });
    afterAll(async () => {
      await sandbox.call(["rm", "-f", "web"]);
    });
    const inside = (...command: readonly string[]): Promise<string> =>
      sandbox.ok(["exec", "web", ...command]);

    test("lets the host's ports lead to a guest that has not said anything yet, for the host and for others", async () => {
      const title = "<title>Welcome to nginx!</title>";
      expect(await page(network.near, "http://127.0.0.1:8080/")).toContain(title);
      expect(await page(network.far, `http://${NEAR_ADDRESS}:8080/`)).toContain(title);
      const anyPort = (await sandbox.ok(["port", "web", "80"])).split("\n")[1] ?? "";
      expect(anyPort).toMatch(/^127\.0\.0\.1:\d+$/);
      expect(await page(network.near, `http://${anyPort}/`)).toContain(title);
      // Bound to the loopback interface alone.
      const [, port = ""] = anyPort.split(":");
      await expect(from(network.far, "curl", "-s", `http://${NEAR_ADDRESS}:${port}/`)).rejects.toThrow();
    });

    test("leads to where this host gets, under the host's own address and by the names that the host knows", async () => {
      expect(await inside("curl", "-s", `${FAR}/`)).toBe(`hello ::ffff:${NEAR_ADDRESS}\n`);
      for (const name of [FAR_NAME, "far"]) {
        expect(await inside("curl", "-s", `http://${name}:${FAR_PORT}/`)).toMatch(/^hello /);
      }
      const unknown = await sandbox.call(["exec", "web", "curl", "-s", "http://near.firectl.test/"]);
      expect(unknown.status).toBe(6);
    });

    test("carries many frames in both directions, none of them changed", async () => {
      const script = `head -c ${4 * MIB} /dev/urandom >/tmp/sent && curl -s --data-binary @/tmp/sent ${FAR}/ | cmp - /tmp/sent`;
      await inside("/bin/sh", "-c", script);
      expect(await inside("/bin/sh", "-c", `curl -s ${FAR}/bytes/${16 * MIB} | wc -c`)).toBe(`${16 * MIB}\n`);
    });

    test("is shown where docker shows it", async () => {
      expect(await sandbox.ok(["list", "--format", "{{.Ports}}"])).toMatch(
        /^0\.0\.0\.0:8080->80\/tcp, 127\.0\.0\.1:\d+->80\/tcp, 0\.0\.0\.0:5353->53\/udp\n$/,
      );
      const [record] = JSON.parse(await sandbox.ok(["inspect", "web"]));
      expect(record.NetworkSettings).toMatchObject({
        IPAddress: "10.0.2.15",
        Ports: { "53/udp": [{ HostIp: "0.0.0.0", HostPort: "5353" }] },
      });
      expect(await inside("cat", "/etc/hosts")).toMatch(/\n10\.0\.2\.15\tweb\n$/);
      expect(await inside("cat", "/etc/resolv.conf")).toMatch(
        /^nameserver 10\.0\.2\.3\nsearch firectl\.test$/m,
      );
      const { NetIO } = JSON.parse(await sandbox.ok(["stats", "--no-stream", "--format", "json", "web"]));
      expect(NetIO).toMatch(/^[\d.]+MB \/ [\d.]+MB$/);
    });

    test("holds ports that nobody else gets, and has them again after a new start", async () => {
      const second = await once(["-p", "8080:80", BUSYBOX]);
      expect([second.status, second.stderr]).toEqual([
        125,
        expect.stringContaining("port 8080/tcp of this host is taken"),
      ]);
      await sandbox.ok(["stop", "--keep", "web"]);
      expect(await sandbox.ok(["list", "-a", "--format", "{{.Ports}}"])).toBe("\n");
      await sandbox.ok(["start", "web"]);
      expect(await page(network.near, "http://127.0.0.1:8080/")).toContain("nginx");
    });

    test("leaves no process when its VMM is killed", async () => {
      const [record] = JSON.parse(await sandbox.ok(["inspect", "web"])) as [
        { firecrackerPid: number; companions: { pid: number }[] },
      ];
      // Supervisor, relay, passt at least.
      expect(record.companions.length).toBeGreaterThanOrEqual(3);
      process.kill(record.firecrackerPid, "SIGKILL");
      const alive = () => record.companions.filter(({ pid }) => isAlive(pid));
      await expect.poll(alive, SOON).toEqual([]);
    });
  });

  test("does not lead to what listens on the host's loopback interface, whatever a guest sends", async () => {
    const [program = "", ...words] = network.near;
    const listener = `require("node:net").createServer((socket) => socket.end("secret")).listen(7000, "127.0.0.1", () => console.log("ready"))`;
    const server = await serve([program, [...words, process.execPath, "-e", listener]]);
    try {
      // Loopback addresses are made ones of the network's: a frame for 127.0.0.1 leaves the guest.
      const script = `
        ip route del local 127.0.0.0/8 dev lo table local; ip route del local 127.0.0.1 dev lo table local
        ip addr del 127.0.0.1/8 dev lo
        ip route add 127.0.0.0/8 via 10.0.2.2; echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet
        echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet
        { printf 'GET / HTTP/1.0\\r\\n\\r\\n'; sleep 5; } | timeout 30 nc ${FAR_ADDRESS} ${FAR_PORT} | grep -m 1 hello || exit 9
        for address in 127.0.0.1 127.1.2.3 10.0.2.2 10.0.2.3; do
          timeout 5 nc -w 3 $address 7000 </dev/null
        done
        echo end`;
      const vm = await once(["--network", "user", "--privileged", BUSYBOX, "/bin/sh", "-c", script]);
      expect(vm.stdout, vm.stderr).toBe(`hello ::ffff:${NEAR_ADDRESS}\nend\n`);
    } finally {
      server.kill("SIGKILL");
    }
  });

  test("is not there unless it is asked for", async () => {
    const script = "ls /sys/class/net; cat /etc/resolv.conf";
    const without = async (): Promise<string> => (await once([BUSYBOX, "/bin/sh", "-c", script])).stdout;
    expect(await without()).toMatch(/^lo\n# .*no network/);
    await sandbox.configure({ network: "user" });
    try {
      expect(await without()).toMatch(/^eth0\nlo\n(#.*\n)?nameserver /);
    } finally {
      await sandbox.configure({});
    }
  });

  test.runIf(vmm === "firecracker")(
    "is as slow as it is told, and as fast again when it is told so",
    async () => {
      await sandbox.ok([
        ...["run", "-d", "--vmm", vmm, "--name", "slow", "--network", "user", "--network-bps", "1m"],
        ...["--entrypoint", "sleep", DEBIAN, "1000"],
      ]);
      const download = ["curl", "-s", "-o", "/dev/null", "-w", "%{time_total}", `${FAR}/bytes/${4 * MIB}`];
      const seconds = async (): Promise<number> => Number(await sandbox.ok(["exec", "slow", ...download]));
      // A full bucket, then three more at a bucket a second; unlimited it takes a fraction of one.
      expect(await seconds()).toBeGreaterThan(2);
      await sandbox.ok(["update", "--network-bps", "512k", "slow"]);
      expect(await seconds()).toBeGreaterThan(5);
      expect(sandbox.records()).toMatchObject([
        { workload: { resources: { networkLimit: { bytesPerSecond: 512 * 1024 } } } },
      ]);
      await sandbox.ok(["update", "--network-bps", "0", "slow"]);
      expect(JSON.stringify(sandbox.records())).not.toContain("networkLimit");
      await sandbox.ok(["rm", "-f", "slow"]);
    },
  );

  test.runIf(vmm === "qemu")("has no limits on QEMU, which has none to give", async () => {
    const limited = await once(["--network", "user", "--network-bps", "1m", BUSYBOX]);
    expect([limited.status, limited.stderr]).toEqual([
      125,
      expect.stringContaining("QEMU cannot limit the rate of a network interface"),
    ]);
  });

  test("needs passt, and says so", async () => {
    const without = await once(["--network", "user", BUSYBOX], { env: { FIRECTL_PASST: "/bin/false" } });
    expect([without.status, without.stderr]).toEqual([125, expect.stringMatching(/passt/)]);
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
