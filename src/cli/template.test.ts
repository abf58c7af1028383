import { describe, expect, test } from "vitest";
import { fieldsIn, renderTemplate, subjectOf } from "./render-template.ts";
import { parseTemplate } from "./template.ts";

const RECORD = {
  id: "3f2b",
  state: "exited",
  exitCode: 3,
  oomKilled: false,
  error: null,
  network: { addresses: ["10.0.0.2", "10.0.0.3"], gateway: "10.0.0.1" },
  mounts: [
    { Type: "volume", Destination: "/data", RW: true },
    { Type: "bind", Destination: "/src", RW: false },
  ],
  none: [],
  evil: ["a\x1b", "b\n"],
  labels: { app: "web", "com.example.team": "core", evil: "a\x1b[2J\nb" },
};

const render = (template: string, object: unknown = RECORD): string =>
  renderTemplate(parseTemplate(template), object);

describe("templates", () => {
  test.each([
    ["", ""],
    ["{{.id}}", "3f2b"],
    ["{{ .ID }}", "3f2b"],
    ["{{.Id}}\\t{{.exitCode}}\\n", "3f2b\t3\n"],
    ["plain \\\\ text", "plain \\ text"],
    ["{{.error}}|", "|"],
    ["{{.network.gateway}}", "10.0.0.1"],
    ["{{.Network.Addresses}}", "[10.0.0.2 10.0.0.3]"],
    ["{{json .network.addresses}}", '["10.0.0.2","10.0.0.3"]'],
    ["{{json .error}}", "null"],
    ['{{index .labels "com.example.team"}}', "core"],
    ['{{index .labels "missing"}}|', "|"],
    ['{{index .labels "App"}}|', "|"],
    ['{{.Label "app"}}', "web"],
    ["{{.Label `app`}}", "web"],
    ['{{.Label "toString"}}|', "|"],
    ["{{.labels.evil}}", "a\\x1b[2J\\nb"],
    ["{{json .labels.evil}}", '"a\\u001b[2J\\nb"'],
    ["}} {", "}} {"],
    ["{{index .network.addresses 1}}", "10.0.0.3"],
    ['{{index .mounts 1 "Destination"}}', "/src"],
    ["{{(index .mounts 0).Destination}}", "/data"],
    ["{{len .network.addresses}} {{len .labels}} {{len .id}} {{len .error}}", "2 3 4 0"],
    ['{{join .network.addresses ","}}', "10.0.0.2,10.0.0.3"],
    ['{{join .network.addresses "}}\\t\\""}}', '10.0.0.2}}\t"10.0.0.3'],
    ['{{upper (join .network.addresses "x")}}{{"\\n"}}', "10.0.0.2X10.0.0.3\n"],
    ['{{join .evil "\\n"}}', "a\\x1b\nb\\n"],
    ["{{upper .state}} {{lower (upper .state)}} {{upper .error}}|", "EXITED exited |"],
    ["{{json (index .labels `app`)}}", '"web"'],
  ])("%s", (template, expected) => {
    expect(render(template)).toBe(expected);
  });

  test.each([
    ["{{range .network.addresses}}<{{.}}>{{end}}", "<10.0.0.2><10.0.0.3>"],
    ["{{range .mounts}}{{.Type}}:{{.Destination}} {{end}}", "volume:/data bind:/src "],
    ["{{range .mounts}}{{if .RW}}{{.Destination}}{{end}}{{end}}", "/data"],
    ["{{range .none}}x{{else}}none{{end}}", "none"],
    ["{{range .error}}x{{end}}|", "|"],
    ["{{range .labels}}{{.}};{{end}}", "web;core;a\\x1b[2J\\nb;"],
    ["{{range .mounts}}{{range .}}{{.}},{{end}}{{end}}", "/data,true,volume,/src,false,bind,"],
    ["{{if .id}}yes{{else}}no{{end}}", "yes"],
    ["{{if .none}}yes{{else}}no{{end}}", "no"],
    ["{{if .error}}yes{{end}}|", "|"],
    ["{{if .labels}}yes{{end}}", "yes"],
    ["{{if not .oomKilled}}yes{{end}}", "yes"],
    ['{{if eq .state "running" "exited"}}yes{{end}}', "yes"],
    ["{{if eq .exitCode 3}}yes{{end}}{{if ne .exitCode 3}}no{{end}}", "yes"],
    ["{{if .none}}{{if .id}}a{{end}}{{else}}{{if .id}}b{{else}}c{{end}}{{end}}", "b"],
  ])("%s goes through what there is", (template, expected) => {
    expect(render(template)).toBe(expected);
  });

  test("{{json .}} is the whole", () => {
    expect(JSON.parse(render("{{json .}}"))).toEqual(RECORD);
  });

  test.each([
    ["{{.id", '"{{.id" has no closing "}}"'],
    ['{{index .labels "a}}', '"{{index .labels "a}}" has no closing "}}"'],
    ["{{}}", "{{}} is not understood"],
    ["{{id}}", "{{id}} is not understood"],
    ["{{.id | upper}}", "{{.id | upper}} is not understood"],
    ["{{.id .state}}", "{{.id .state}} is not understood"],
    ["{{(.id}}", "{{(.id}} is not understood"],
    ["{{.Label}}x{{.Label .id .id}}", "{{.Label}} is not understood"],
    ["{{len}}", "{{len}}: len takes 1 of values"],
    ["{{index .id}}", "{{index .id}}: index takes at least 2 of values"],
    ["{{if .id}}x", "{{if .id}} has no {{end}}"],
    ["{{range .mounts}}x{{else}}y", "{{range .mounts}} has no {{end}}"],
    ["{{range .mounts}}x{{else}}y{{else}}z{{end}}", "{{range .mounts}} has no {{end}}"],
    ["x{{end}}", "{{end}} closes nothing"],
    ["{{else}}", "{{else}} closes nothing"],
  ])("%s is no template", (template, message) => {
    expect(() => parseTemplate(template)).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT", message: `--format: ${message}` }),
    );
  });

  test.each([
    ["{{.constructor}}", "{{.constructor}}: there is no field constructor"],
    ["{{.network.mac}}", "{{.network.mac}}: there is no field mac"],
    ["{{.exitCode.x}}", "{{.exitCode.x}}: .exitCode is a number, and has no field x"],
    ["{{.error.x}}", "{{.error.x}}: .error is not set, and has no field x"],
    ["{{.mounts.Type}}", "{{.mounts.Type}}: .mounts is a list, and has no field Type"],
    ["{{range .network.addresses}}{{.x}}{{end}}", '{{.x}}: the word "10.0.0.2" has no field x'],
    ["{{index .mounts 2}}", "{{index .mounts 2}}: the list has 2 elements, and none 2"],
    ['{{index .mounts "a"}}', '{{index .mounts "a"}}: the list has 2 elements, and none "a"'],
    ["{{index .exitCode 0}}", "{{index .exitCode 0}}: a number has no elements"],
    ["{{range .id}}x{{end}}", '{{range .id}}: the word "3f2b" has no elements'],
  ])("%s does not fit", (template, message) => {
    expect(() => render(template)).toThrow(`--format: ${message}`);
  });

  test("a wrong field's hint names those that there are", () => {
    expect(() => render("{{.nope}}")).toThrow(
      expect.objectContaining({
        hint: "the fields are .id .state .exitCode .oomKilled .error .network .mounts .none .evil .labels",
      }),
    );
  });

  test("docker's name for a field of a VM gets ours as a hint", () => {
    const vm = { imageName: "nginx", state: "exited", exitCode: 3 };
    expect(() => render("{{.State.Status}}", vm)).toThrow(
      expect.objectContaining({
        message: '--format: {{.State.Status}}: .State is the word "exited", and has no field Status',
        hint: "docker's .State.Status is .state here",
      }),
    );
    expect(() => render("{{.config.image}}", vm)).toThrow(
      expect.objectContaining({ hint: "docker's .config.image is .imageName here" }),
    );
    // An image's fields are docker's own.
    expect(() => render("{{.Config.Image}}", { Config: {} })).toThrow(
      expect.objectContaining({ hint: "the fields are " }),
    );
  });

  test("maps print as docker's lists have labels, where that is asked for", () => {
    const labels = (object: unknown): string =>
      renderTemplate(parseTemplate("{{.Labels}}|{{json .Labels}}"), object, { maps: "pairs" });
    expect(labels({ Labels: { a: "b", c: "d\x1b" } })).toBe('a=b,c=d\\x1b|{"a":"b","c":"d\\u001b"}');
    expect(labels({ Labels: {} })).toBe("|{}");
    expect(render("{{.labels.app}} {{.network}}")).toMatch(/^web \{"addresses":/);
  });

  test.each([
    ["{{.A}} {{json .B}} {{len (index .C 0)}}", ["A", "B", "C"]],
    ["{{json .}}", []],
    ["{{.Label `x`}}", ["Labels"]],
    ["{{if .A}}{{.B}}{{else}}{{.C}}{{end}}", ["A", "B", "C"]],
    ["{{range .A}}{{.inside}}{{else}}{{.B}}{{end}}", ["A", "B"]],
  ])("%s names fields", (template, fields) => {
    expect(fieldsIn(parseTemplate(template))).toEqual(fields);
  });

  test.each([
    ["{{.A.B}}", "B"],
    ["{{json .}}", ""],
    ['{{index .Labels "app"}}', "app"],
    ['{{join .Names ","}}', "Names"],
    ["{{(index .Mounts 0).Type}}", "Type"],
  ])("%s heads a column", (template, expected) => {
    const [part] = parseTemplate(template);
    expect(part?.kind === "value" ? subjectOf(part.expression) : undefined).toBe(expected);
  });
});
