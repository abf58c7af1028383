import { afterAll, beforeAll, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";
import { type Registry, startRegistry } from "./support/registry.ts";

/** nginx needs a moment after its start, more on a busy machine. */
const SOON = { timeout: 120_000, interval: 300 };

onEveryBackend("Debian with nginx, from a registry", (vmm) => {
  let sandbox: Sandbox;
  let registry: Registry;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
    registry = await startRegistry();
    const reference = await registry.push(`${IMAGES}/nginx`, "debian/nginx");
    await sandbox.ok(["run", "-d", "--vmm", vmm, "--name", "web", reference]);
  });
  afterAll(async () => {
    await registry[Symbol.asyncDispose]();
    await sandbox.closeEmpty();
  });
  const curl = (...args: readonly string[]) => sandbox.call(["exec", "web", "/usr/bin/curl", "-s", ...args]);

  test("it serves its page inside, on the loopback interface", async () => {
    await expect.poll(() => curl("http://127.0.0.1/"), SOON).toMatchObject({ status: 0 });
    expect((await curl("http://127.0.0.1/")).stdout).toContain("<title>Welcome to nginx!</title>");
    expect((await curl("http://localhost/")).stdout).toContain("Thank you for using nginx.");
    const head = await curl("-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1/nothing-here");
    expect(head).toMatchObject({ stdout: "404", status: 0 });
  });

  test("the image's command, variables and stop signal are on record, and nginx is PID 1", async () => {
    const [record] = JSON.parse(await sandbox.ok(["inspect", "web"]));
    expect(record).toMatchObject({
      state: "running",
      imageName: `${registry.address}/debian/nginx:latest`,
      imageDigest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      workload: { args: ["/usr/sbin/nginx", "-g", "daemon off;"], stopSignal: 3 },
    });
    expect(await sandbox.ok(["exec", "web", "/bin/sh", "-c", "echo $NGINX_MADE_BY"])).toBe("debian\n");
    expect(await sandbox.ok(["exec", "web", "/bin/cat", "/proc/1/comm"])).toBe("nginx\n");
  });

  test("its access log holds the requests; logs -f goes on to the end; SIGQUIT ends it gracefully", async () => {
    const following = sandbox.start(["logs", "-f", "web"]);
    await expect.poll(following.stdout, SOON).toContain('"GET /nothing-here HTTP/1.1" 404');
    const log = await sandbox.ok(["logs", "web"]);
    expect(log).toMatch(/"GET \/ HTTP\/1\.1" 200 .* "curl\//);
    const waiting = sandbox.start(["wait", "web"]);
    expect(await sandbox.ok(["stop", "--keep", "web"])).toBe("web\n");
    expect(await following.finished).toMatchObject({ stdout: log, status: 0 });
    expect(await waiting.finished).toMatchObject({ stdout: "0\n", status: 0 });
    // The stop signal sufficed: no kill after the ten seconds of grace.
    expect(sandbox.records()).toMatchObject([{ state: "exited", exitCode: 0, exitSignal: null }]);
  });

  test("started again, it serves again, keeps its logs, and everything is gone after stop", async () => {
    await sandbox.ok(["start", "web"]);
    await expect.poll(() => curl("http://127.0.0.1/"), SOON).toMatchObject({ status: 0 });
    // Of its life before.
    expect(await sandbox.ok(["logs", "web"])).toContain('"GET /nothing-here HTTP/1.1" 404');
    expect(await sandbox.ok(["stop", "web"])).toBe("web\n");
    await sandbox.expectNothingLeft();
    expect(await sandbox.ok(["list", "-a", "-q"])).toBe("");
  });
});
