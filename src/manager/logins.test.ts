import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { TestServer } from "../image/registry.test-helper.ts";
import { Firectl } from "./firectl.ts";

async function open(
  settings: object = {},
): Promise<{ firectl: Firectl; config: () => { auths: Record<string, { auth: string }> } }> {
  const directory = temporaryDirectory();
  const at = (name: string): string => path.join(directory, name);
  mkdirSync(at("config"));
  writeFileSync(at("config/config.json"), JSON.stringify(settings));
  const env = {
    HOME: directory,
    PATH: process.env["PATH"],
    FIRECTL_CONFIG_DIR: at("config"),
    FIRECTL_DATA_DIR: at("data"),
    FIRECTL_RUNTIME_DIR: at("run"),
  };
  return {
    firectl: await Firectl.open({ env }),
    config: () => JSON.parse(readFileSync(at(".docker/config.json"), "utf8")),
  };
}

const auth = Buffer.from("me:pw").toString("base64");

describe("login and logout", () => {
  test("keep a login that the registry takes, and forget it", async () => {
    await using server = await TestServer.start((request, response) => {
      if (request.headers.authorization === `Basic ${auth}`) response.end("{}");
      else response.writeHead(401, { "www-authenticate": "Basic" }).end();
    });
    const { firectl, config } = await open();
    const registry = server.host;
    await expect(firectl.login({ registry })).rejects.toMatchObject({ code: "AUTHENTICATION_FAILED" });
    const report = await firectl.login({ registry: `http://${registry}/`, username: "me", password: "pw" });
    expect(report).toMatchObject({
      registry,
      isPlain: true,
      storedIn: expect.stringMatching(/config\.json$/),
    });
    expect(config()).toEqual({ auths: { [registry]: { auth } } });
    expect(await firectl.login({ registry })).toEqual({ registry, storedIn: null, isPlain: false });
    expect(await firectl.logout(registry)).toMatchObject({ registry, removedFrom: [report.storedIn] });
    expect(config()).toEqual({ auths: {} });
  });

  test("tell a token server of another site the login when config.json says so", async () => {
    await using tokens = await TestServer.start((_request, response) => void response.end('{"token":"t"}'));
    const elsewhere = tokens.host.replace("127.0.0.1", "localhost");
    await using server = await TestServer.start((request, response) => {
      if (request.headers.authorization === "Bearer t") response.end("{}");
      else response.writeHead(401, { "www-authenticate": `Bearer realm="http://${elsewhere}/"` }).end();
    });
    const login = { registry: server.host, username: "me", password: "pw" };
    await expect((await open()).firectl.login(login)).rejects.toThrow(/of another site/);
    const { firectl } = await open({ registryTokenServers: { [server.host]: [elsewhere] } });
    await firectl.login(login);
    expect(tokens.requests[0]?.authorization).toBe(`Basic ${auth}`);
  });

  test("need a user and a password, or neither", async () => {
    const { firectl } = await open();
    await expect(firectl.login({ username: "me" })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(firectl.login({ registry: "no registry" })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });
});
