import { type Command, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import { ancestorsIn, matchesFilters, parseFilter } from "../filters.ts";
import { parseListFormat, renderList } from "../output.ts";
import { vmView } from "../vm-view.ts";

export const list: Command = defineCommand({
  name: "list",
  aliases: ["ls", "ps"],
  summary: "List the running VMs",
  description: `Filters as docker's: name takes a regular expression; ancestor an image, and finds the VMs made from it
under whatever name it has. Of several values of one key one must fit, of labels every one.`,
  arguments: "",
  minArguments: 0,
  maxArguments: 0,
  flags: {
    all: { kind: "boolean", short: "a", summary: "List those that have ended too" },
    filter: {
      kind: "list",
      short: "f",
      placeholder: "KEY=VALUE",
      parse: parseFilter,
      summary: "Only VMs with this name, status, label, id, ancestor (image), vmm or health",
    },
    format: {
      kind: "value",
      placeholder: "FORMAT",
      parse: parseListFormat,
      summary: "table, json, or a template such as '{{.ID}}\\t{{.Name}}'",
    },
    "no-trunc": { kind: "boolean", summary: "Do not shorten ids and commands" },
    quiet: { kind: "boolean", short: "q", summary: "Print ids only" },
  },
  examples: [
    "firectl list -a",
    "firectl list --filter label=app=web --filter status=exited",
    "firectl list -a --filter 'name=^web-[0-9]+$' --filter ancestor=nginx:1.27",
    "firectl list --format 'table {{.Name}}\\t{{.Status}}'",
    "firectl stop $(firectl list -q)",
  ],
  async handler({ flags, given }, context) {
    const operations = await context.firectl();
    // Whoever asks for a status means every VM that has it.
    const all = flags.all || flags.filter.some(({ key }) => key === "status");
    const listed = await operations.list({ all, ...defined({ images: ancestorsIn(flags.filter) }) });
    const vms = listed.filter((vm) => matchesFilters(vm, flags.filter));
    const truncated = !flags["no-trunc"] && !context.json;
    const view = vmView({ truncated });
    const idsOnly = flags.quiet && !given.has("format");
    const format = flags.format ?? { kind: context.json ? "json" : "table" };
    const text = idsOnly
      ? vms.map((vm) => `${view.fields["ID"]?.(vm)}\n`).join("")
      : renderList(vms, { view, format });
    context.io.stdout.write(text);
    return 0;
  },
});
