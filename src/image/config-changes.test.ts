// biome-ignore-all lint/suspicious/noTemplateCurlyInString: a Dockerfile's variables look like this.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { configFromChanges } from "./config-changes.ts";
import { processWord, splitWords } from "./dockerfile-words.ts";

describe("configFromChanges", () => {
  it.each<[string, readonly string[], unknown]>([
    ["nothing", [], {}],
    ["a command as a list", ['CMD ["/bin/sh", "-c", "a b"]'], { Cmd: ["/bin/sh", "-c", "a b"] }],
    ["a command for the shell", ["cmd echo $HOME 'x y'"], { Cmd: ["/bin/sh", "-c", "echo $HOME 'x y'"] }],
    ["what looks like a list and is none", ["CMD [ -f x ]"], { Cmd: ["/bin/sh", "-c", "[ -f x ]"] }],
    ["an entrypoint", ['ENTRYPOINT ["a"]', 'CMD ["b"]'], { Entrypoint: ["a"], Cmd: ["b"] }],
    ["no command after all", ["CMD x", "CMD []"], { Cmd: [] }],
    [
      "variables",
      ["ENV A=b C=\"d e\" F='g $A' H=i\\ j K="],
      { Env: ["A=b", "C=d e", "F=g $A", "H=i j", "K="] },
    ],
    ["a variable in the old form", ["ENV A b  c"], { Env: ["A=b  c"] }],
    ["the last value", ["ENV A=1 B=2", "ENV A=3"], { Env: ["A=3", "B=2"] }],
    [
      "variables of earlier instructions",
      ["ENV A=x", "ENV A=y B=$A C=${A}z D=${N:-d$A} E=${A:+e} F=\\$A", "WORKDIR /w/$A", "USER $A"],
      { Env: ["A=y", "B=x", "C=xz", "D=dx", "E=e", "F=$A"], WorkingDir: "/w/y", User: "y" },
    ],
    ["labels", ['LABEL a=b "c d"="e f"', "LABEL a=g"], { Labels: { a: "g", "c d": "e f" } }],
    [
      "ports",
      ["EXPOSE 80 90/UDP", "EXPOSE 8000-8002/tcp 80"],
      { ExposedPorts: { "80/tcp": {}, "90/udp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {} } },
    ],
    ["volumes", ["VOLUME /a /b", 'VOLUME ["/c d"]'], { Volumes: { "/a": {}, "/b": {}, "/c d": {} } }],
    ["directories, one below the other", ["WORKDIR /a/../b", "WORKDIR c/./d"], { WorkingDir: "/b/c/d" }],
    ["a directory without a beginning", ["WORKDIR a"], { WorkingDir: "/a" }],
    ["a signal", ["STOPSIGNAL SIGQUIT"], { StopSignal: "SIGQUIT" }],
    ["a real-time signal", ["STOPSIGNAL RTMIN+3"], { StopSignal: "RTMIN+3" }],
    ["no health check", ["HEALTHCHECK none"], { Healthcheck: { Test: ["NONE"] } }],
    [
      "a health check",
      ["HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl -f x || exit 1"],
      {
        Healthcheck: {
          Test: ["CMD-SHELL", "curl -f x || exit 1"],
          Interval: 90e9,
          Timeout: 5e8,
          Retries: 3,
        },
      },
    ],
    ["a health check as a list", ['HEALTHCHECK CMD ["x"]'], { Healthcheck: { Test: ["CMD", "x"] } }],
    ["triggers", ["ONBUILD RUN a", "ONBUILD RUN b"], { OnBuild: ["RUN a", "RUN b"] }],
    [
      "several lines, comments, a line that goes on",
      ["# x\n\nENV A=1\\\n2\n USER u"],
      { Env: ["A=12"], User: "u" },
    ],
  ])("reads %s", (_what, changes, config) => {
    expect(configFromChanges(changes)).toEqual(config);
  });

  it.each<[string, string]>([
    ["RUN x", '"RUN" cannot change an image'],
    ["FROM x", "cannot change an image"],
    ["constructor x", "cannot change an image"],
    ["CMD", "nothing follows CMD"],
    ["ENV A", "a name and a value are needed"],
    ["ENV A=1 B", '"B" is not NAME=VALUE'],
    ["ENV =1", "a name is empty"],
    ['ENV A="1', "is not closed"],
    ["ENV A=${B", "a brace is not closed"],
    ["ENV A=${B!x}", "is not a variable"],
    ['ENV A="${B:?no B}"', "B: no B"],
    ["EXPOSE 0", '"0" is not a port'],
    ["EXPOSE 65536", "is not a port"],
    ["EXPOSE 90-80", "is not a port"],
    ["EXPOSE 80:80", "is not a port"],
    ["EXPOSE 80/icmp", "is not a port"],
    ['VOLUME [""]', "a volume's path is empty"],
    ["STOPSIGNAL kill me", "is not a signal"],
    ["HEALTHCHECK x", "write NONE, or flags and CMD COMMAND"],
    ["HEALTHCHECK --interval=1 CMD x", "is not a flag of HEALTHCHECK"],
    ["HEALTHCHECK --toString=1s CMD x", "is not a flag of HEALTHCHECK"],
  ])("refuses %s", (change, message) => {
    expect(() => configFromChanges(["USER u", change])).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining(message) }),
    );
  });
});

describe("words", () => {
  it.each<[string, readonly string[]]>([
    ["", []],
    ["  a  b\tc ", ["a", "b", "c"]],
    ["a=\"b c\" d='e \\' f", ['a="b c"', "d='e \\'", "f"]],
    ["a\\ b c", ["a\\ b", "c"]],
    ['"a \\" b" c', ['"a \\" b"', "c"]],
    ["a\\", ["a\\"]],
  ])("%j splits into %j", (text, words) => {
    expect(splitWords(text)).toEqual(words);
  });

  it.each<[string, string]>([
    ["a'b'\"c\"d", "abcd"],
    ['"a\\n\\$X\\\\"', "a\\n$X\\"],
    ["'$X\\n'", "$X\\n"],
    ["$X-${X}", "x-x"],
    ["$NOPE|${NOPE}|${NOPE-a}|${E-a}|${E:-a}|${E+a}|${E:+a}", "||a||a|a|"],
    ["${NOPE:-${X}y}", "xy"],
    ["$", "$"],
    ["$%", "$%"],
    ["a\\", "a"],
  ])("%j means %j", (text, meaning) => {
    expect(
      processWord(
        text,
        new Map([
          ["X", "x"],
          ["E", ""],
        ]),
      ),
    ).toBe(meaning);
  });

  it("any text, quoted as a shell does it, is itself again", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const quoted = `'${text.replaceAll("'", `'\\''`)}'`;
        expect(splitWords(`a ${quoted} b`)).toEqual(["a", quoted, "b"]);
        expect(processWord(quoted, new Map())).toBe(text);
      }),
    );
  });
});
