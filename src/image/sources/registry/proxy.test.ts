import { describe, expect, it } from "vitest";
import { proxiesOf } from "./proxy.ts";

const nameFor = (url: string, env: NodeJS.ProcessEnv): string | undefined =>
  proxiesOf(env)(new URL(url))?.name;

describe("proxiesOf", () => {
  it.each<[string, NodeJS.ProcessEnv, string | undefined]>([
    ["https://a.example/", {}, undefined],
    ["https://a.example/", { HTTPS_PROXY: "http://p:1" }, "p:1"],
    ["https://a.example/", { https_proxy: "http://p:1" }, "p:1"],
    ["https://a.example/", { HTTPS_PROXY: "http://up:1", https_proxy: "http://low:1" }, "up:1"],
    ["https://a.example/", { HTTPS_PROXY: "", https_proxy: "http://low:1" }, "low:1"],
    ["https://a.example/", { HTTP_PROXY: "http://p:1" }, undefined],
    ["http://a.example/", { HTTP_PROXY: "http://p:1" }, "p:1"],
    ["http://a.example/", { HTTPS_PROXY: "http://p:1" }, undefined],
    ["http://a.example/", { ALL_PROXY: "http://p:1" }, "p:1"],
    ["https://a.example/", { all_proxy: "socks5://p" }, "p:1080"],
    ["https://a.example/", { ALL_PROXY: "http://all:1", HTTPS_PROXY: "https://own" }, "own:443"],
    // A CGI program must not believe its HTTP_PROXY, CVE-2016-5386.
    ["http://a.example/", { HTTP_PROXY: "http://p:1", REQUEST_METHOD: "GET" }, undefined],
    ["http://a.example/", { http_proxy: "http://p:1", REQUEST_METHOD: "GET" }, "p:1"],
    ["https://a.example/", { HTTPS_PROXY: "http://p:1", REQUEST_METHOD: "GET" }, "p:1"],
    // Without a scheme it is plain HTTP.
    ["https://a.example/", { HTTPS_PROXY: "p.example:3128" }, "p.example:3128"],
    ["https://a.example/", { HTTPS_PROXY: " p.example " }, "p.example:80"],
    ["https://a.example/", { HTTPS_PROXY: "http://[fd00::1]:3128" }, "[fd00::1]:3128"],
    // Its own credentials are in no name.
    ["https://a.example/", { HTTPS_PROXY: "http://u:s3cret@p:1" }, "p:1"],
  ])("%s with %j: %s", (url, env, expected) => {
    expect(nameFor(url, env)).toBe(expected);
  });

  it.each([
    "https://localhost/",
    "https://localhost:5000/",
    "http://127.0.0.1:5000/",
    "http://127.8.9.10/",
    "http://[::1]:5000/",
  ])("never sends %s through one", (url) => {
    expect(nameFor(url, { ALL_PROXY: "http://p:1" })).toBeUndefined();
  });

  it.each<[string, string, boolean]>([
    ["*", "https://a.example/", false],
    ["b.example, *", "https://a.example/", false],
    ["", "https://a.example/", true],
    [",,", "https://a.example/", true],
    ["a.example", "https://a.example/", false],
    ["A.Example", "https://a.example/", false],
    ["example", "https://a.example/", false],
    ["a.example", "https://sub.a.example/", false],
    ["a.example", "https://nota.example/", true],
    [".a.example", "https://sub.a.example/", false],
    [".a.example", "https://a.example/", true],
    ["*.a.example", "https://sub.a.example/", false],
    ["*.a.example", "https://a.example/", true],
    ["a.example:443", "https://a.example/", false],
    ["a.example:80", "https://a.example/", true],
    ["a.example:80", "http://a.example/", false],
    ["a.example:5000", "https://a.example:5000/", false],
    [".a.example:5000", "https://b.a.example:5001/", true],
    ["b.example , a.example", "https://a.example/", false],
    ["10.0.0.0/8", "https://10.1.2.3/", false],
    ["10.0.0.0/8", "https://11.1.2.3/", true],
    ["10.0.0.0/8", "https://10.example/", true],
    ["10.0.0.0/33", "https://10.1.2.3/", true],
    ["10.1.2.3", "https://10.1.2.3:5000/", false],
    ["10.1.2.3:5000", "https://10.1.2.3:5000/", false],
    ["10.1.2.3:5001", "https://10.1.2.3:5000/", true],
    ["10.1.2.3", "https://10.1.2.30/", true],
    ["fd00::/8", "https://[fd12::1]/", false],
    ["fd00::/8", "https://[fe80::1]/", true],
    ["fd12::1", "https://[fd12:0::1]/", false],
    ["[fd12::1]", "https://[fd12::1]:5000/", false],
    ["[fd12::1]:5000", "https://[fd12::1]:5000/", false],
    ["[fd12::1]:5001", "https://[fd12::1]:5000/", true],
    [":443", "https://a.example/", true],
    ["[]", "https://a.example/", true],
  ])("with NO_PROXY=%s, %s through one: %s", (noProxy, url, expected) => {
    const proxied = nameFor(url, { ALL_PROXY: "http://p:1", NO_PROXY: noProxy }) !== undefined;
    expect(proxied).toBe(expected);
    const lower = nameFor(url, { ALL_PROXY: "http://p:1", no_proxy: noProxy }) !== undefined;
    expect(lower).toBe(expected);
  });

  it("reads credentials, percent-encoded", () => {
    const proxy = proxiesOf({ HTTPS_PROXY: "http://me%40x:p%3Aw@p:1" })(new URL("https://a.example"));
    expect(proxy?.credentials).toEqual({ username: "me@x", password: "p:w" });
  });

  it.each([
    ["HTTPS_PROXY", "http://:s3cret@"],
    ["HTTP_PROXY", "http://u:s3cret@p:port"],
    ["ALL_PROXY", "http://u:s3cret%zz@p"],
    ["HTTPS_PROXY", "ftp://u:s3cret@p"],
  ])("refuses %s=%s without quoting it", (variable, value) => {
    const read = (): unknown => proxiesOf({ [variable]: value });
    expect(read).toThrow(variable);
    expect(read).not.toThrow(/s3cret/);
  });
});
