import { describe, expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import type { LoginOptions, LoginReport } from "../manager/api.ts";
import { firectl, type TestIoOptions } from "./cli.test-helper.ts";

const kept: LoginReport = { registry: "r.example", storedIn: "docker-credential-pass", isPlain: false };

interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly asked: readonly Omit<LoginOptions, "signal">[];
}

/** Runs `firectl login`; `known` is what comes of a login that is known, `undefined` where there is none. */
async function login(
  argv: readonly string[],
  options: TestIoOptions & { known?: LoginReport | FirectlError; report?: LoginReport } = {},
): Promise<Outcome> {
  const asked: Omit<LoginOptions, "signal">[] = [];
  const operations = {
    async login({ signal: _, ...rest }: LoginOptions = {}) {
      asked.push(rest);
      if (rest.username !== undefined) return options.report ?? kept;
      const known = options.known ?? new FirectlError("AUTHENTICATION_FAILED", "no login is known");
      if (known instanceof FirectlError) throw known;
      return known;
    },
  };
  return { ...(await firectl(["login", ...argv], { ...options, operations })), asked };
}

describe("firectl login", () => {
  test.each([["secret\n"], ["secret\r\n"], ["secret"]])("takes the password from stdin: %j", async (text) => {
    const stdin = [text.slice(0, 3), text.slice(3)];
    expect(await login(["-u", "me", "--password-stdin", "r.example"], { stdin })).toEqual({
      status: 0,
      stdout: "Login Succeeded\n",
      stderr: "",
      asked: [{ registry: "r.example", username: "me", password: "secret" }],
    });
  });

  test("warns of a password on the command line, and of a file that keeps it", async () => {
    const report = { registry: "docker.io", storedIn: "/home/me/.docker/config.json", isPlain: true };
    expect(await login(["-u", "me", "-p", "secret"], { report })).toEqual({
      status: 0,
      stdout: "Login Succeeded\n",
      stderr: [
        "warning: a password on the command line can be read by others, use --password-stdin\n",
        "warning: the login is kept unencrypted in /home/me/.docker/config.json; a credential helper would keep it safe: https://docs.docker.com/go/credential-store/\n",
      ].join(""),
      asked: [{ username: "me", password: "secret" }],
    });
  });

  test("asks for what is not given, and shows no password", async () => {
    expect(await login(["r.example"], { typed: ["me ", " secret "] })).toEqual({
      status: 0,
      stdout: "Login Succeeded\n",
      stderr: "Username: me \nPassword: \n",
      asked: [{ registry: "r.example" }, { registry: "r.example", username: "me", password: " secret " }],
    });
    expect(await login(["-u", "me"], { typed: ["secret"] })).toMatchObject({
      stderr: "Password: \n",
      asked: [{ username: "me", password: "secret" }],
    });
    expect(await login(["-p", "secret"], { typed: ["me"] })).toMatchObject({
      asked: [{ username: "me", password: "secret" }],
    });
  });

  test("checks the login that is known before it asks", async () => {
    const known = { registry: "docker.io", storedIn: null, isPlain: false };
    expect(await login([], { known })).toMatchObject({ status: 0, stdout: "Login Succeeded\n", asked: [{}] });
    const offline = new FirectlError("REGISTRY_UNREACHABLE", "cannot reach it");
    expect(await login([], { known: offline, typed: ["me", "pw"] })).toMatchObject({
      status: 6,
      asked: [{}],
    });
  });

  test("says what it did to programs", async () => {
    const { stdout } = await login(["--json", "-u", "me", "--password-stdin"], { stdin: ["x"] });
    expect(JSON.parse(stdout)).toEqual(kept);
  });

  test.each<[string[], TestIoOptions, string]>([
    [[], {}, "stdin is not a terminal"],
    [["--password-stdin"], { stdin: ["x"] }, "--password-stdin needs the user name"],
    [["-u", "me", "-p", "x", "--password-stdin"], {}, "exclude each other"],
    [["-u", ""], {}, "must not be empty"],
    [["-u", "me", "--password-stdin"], { stdin: ["x".repeat(70_000)] }, "no password"],
    [["a", "b"], {}, "login"],
  ])("refuses %j", async (argv, options, message) => {
    const { status, stderr } = await login(argv, options);
    expect(status).toBe(2);
    expect(stderr).toContain(message);
  });
});

describe("firectl logout", () => {
  const logout = (removedFrom: readonly string[], isStillKnown: boolean) => ({
    operations: {
      logout: async (registry?: string) => ({ registry: registry ?? "docker.io", removedFrom, isStillKnown }),
    },
  });

  test.each<[string[], readonly string[], boolean, string, string]>([
    [[], ["/c.json"], false, "Removed the login for docker.io from /c.json\n", ""],
    [
      ["r.example"],
      ["docker-credential-x", "/c.json"],
      false,
      "Removed the login for r.example from docker-credential-x and /c.json\n",
      "",
    ],
    [["r.example"], [], false, "Not logged in to r.example\n", ""],
    [
      ["r.example"],
      [],
      true,
      "Not logged in to r.example\n",
      "warning: another file still has a login for r.example, which pulls will use\n",
    ],
  ])("%j with a login in %j, another: %s", async (argv, places, isStillKnown, stdout, stderr) => {
    expect(await firectl(["logout", ...argv], logout(places, isStillKnown))).toEqual({
      status: 0,
      stdout,
      stderr,
    });
  });

  test("says what it did to programs", async () => {
    const { stdout } = await firectl(["logout", "--json"], logout(["/c.json"], false));
    expect(JSON.parse(stdout)).toEqual({
      registry: "docker.io",
      removedFrom: ["/c.json"],
      isStillKnown: false,
    });
  });
});
