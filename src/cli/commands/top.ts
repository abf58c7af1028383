import { type Command, defineCommand } from "../command.ts";
import { psColumns } from "../ps-view.ts";
import { safeJson } from "../sanitize.ts";
import { renderTable } from "../table.ts";

export const top: Command = defineCommand({
  name: "top",
  summary: "List the processes of a running VM",
  description:
    "The processes of the workload and of exec, with the ids that they see themselves. The options are ps's: -ef\n(default), aux, or -o with columns. The image needs no ps.",
  arguments: "VM [PS-OPTIONS]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  passThrough: true,
  flags: {},
  examples: ["firectl top web", "firectl top web aux", "firectl top web -o pid,rss,args"],
  async handler({ args: [vm = "", ...options] }, context) {
    const columns = psColumns(options);
    const operations = await context.firectl();
    const processes = await operations.processes(vm);
    const rows = processes.map((process) => columns.map(({ cell }) => cell(process)));
    const headings = columns.map(({ heading }) => heading);
    // Docker's API has it so.
    const text = context.json
      ? `${safeJson({ Titles: headings, Processes: rows })}\n`
      : renderTable([headings, ...rows]);
    context.io.stdout.write(text);
    return 0;
  },
});
