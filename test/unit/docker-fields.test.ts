import { expect, it } from "vitest";
import { DOCKER_FIELDS } from "../../src/cli/docker-fields.ts";
import { parseTemplate } from "../../src/cli/template.ts";
import { codeSpans, parseMarkdown, readText } from "./markdown.test-helper.ts";

const text = readText("docs/templates.md");

it("docs/templates.md shows the fields of docker that the hints know", () => {
  const rows = [...text.matchAll(/^\| `\.([A-Z][\w.]*)` \| `(\.[\w.]+)`/gm)].map(([, docker, here]) => [
    docker,
    here,
  ]);
  expect(Object.fromEntries(rows)).toEqual(DOCKER_FIELDS);
});

it("docs/templates.md shows forms that are understood", () => {
  const { prose, fences } = parseMarkdown(text);
  const typed = fences.flatMap((fence) =>
    [...fence.text.matchAll(/'([^']*)'/g)].map(([, quoted]) => quoted ?? ""),
  );
  const forms = [...codeSpans(prose), ...typed].filter((form) => form.includes("{{"));
  expect(forms.length).toBeGreaterThan(15);
  for (const form of forms) expect(() => parseTemplate(form), form).not.toThrow();
});

it("the fields that the hints name are a VM's", () => {
  const record = readText("src/state/vm-record.ts");
  for (const here of Object.values(DOCKER_FIELDS)) {
    const [, first = "", second] = here.split(".");
    if (first === "health") continue; // What inspect adds.
    expect(record).toMatch(new RegExp(`^  ${second ?? first}: `, "m"));
    expect(record).toMatch(new RegExp(`^  ${first}: `, "m"));
  }
});
