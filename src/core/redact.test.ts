import { describe, expect, it, test } from "vitest";
import { redactCredentials, redactForeign } from "./redact.ts";

const DIGEST = `sha256:${"a1".repeat(32)}`;

describe("what can only be a secret is removed from every message", () => {
  it.each([
    ["GET https://user:pa55@reg.example/v2/ failed", "GET https://***@reg.example/v2/ failed"],
    ["https://user@sha256:5000/v2/", "https://***@sha256:5000/v2/"],
    ["https://reg.example/v2/?token=abc123&x=1", "https://reg.example/v2/?token=***&x=1"],
    ["Authorization: Bearer eyJhbGciOi.J9.x", "Authorization: Bearer ***"],
    ["Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"],
    ['{"identitytoken": "s3cret"}', '{"identitytoken": "***"}'],
    ["{'password':'s3cret'}", "{'password':'***'}"],
    ["(password=hunter2", "(password=***"],
    ['env PASSWORD = "hunter2"', 'env PASSWORD = "***"'],
  ])("%j", (text, expected) => {
    expect(redactCredentials(text)).toBe(expected);
    expect(redactForeign(text)).toBe(expected);
  });
});

test.each([
  "image token:latest is not in the local store\nhint: firectl pull token:latest fetches it",
  "there is no image secret:1.2@sha256:abc",
  `there is no image docker://nginx@${DIGEST}`,
  'cannot ask for "Password:": stdin is not a terminal',
  "cannot remove the volume secret: a VM uses it",
  'the name "token": it belongs to another VM',
  "basic auth is refused",
  "archive /etc/passwd: it is no tar",
  `image user@${DIGEST} is fine`,
])("firectl's own words stay, and what users call things: %j", (text) => {
  expect(redactCredentials(text)).toBe(text);
});

describe("of what others say, whatever follows the name of a secret is removed too", () => {
  it.each([
    ["invalid token: abc123", "invalid token: ***"],
    ["password:hunter2 is wrong", "password:*** is wrong"],
    ["X-Secret\nsecret : s3cret", "X-Secret\nsecret : ***"],
    ["no such image: token:latest", "no such image: token:***"],
  ])("%j", (text, expected) => {
    expect(redactForeign(text)).toBe(expected);
  });

  it("but for an echo of what was asked", () => {
    const asked = ["image", "inspect", "token:latest"];
    expect(redactForeign("no such image: token:latest, token:s3cret", asked)).toBe(
      "no such image: token:latest, token:***",
    );
    // Part of what was asked is no echo of more.
    expect(redactForeign("token:latest-s3cret", asked)).toBe("token:***");
  });
});
