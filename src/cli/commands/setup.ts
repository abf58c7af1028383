import { exitStatusOf, FirectlError } from "../../core/errors.ts";
import { type Command, defineCommand } from "../command.ts";
import { safeJson } from "../sanitize.ts";
import { renderTable } from "../table.ts";

export const setup: Command = defineCommand({
  name: "setup",
  summary: "Check this machine and install what VMs need",
  description: "Exits with 0 when firectl run can work on this machine.",
  arguments: "",
  minArguments: 0,
  maxArguments: 0,
  flags: { quiet: { kind: "boolean", short: "q", summary: "Show no progress" } },
  examples: ["firectl setup"],
  async handler({ flags }, context) {
    const operations = await context.firectl();
    const progress = await context.progress({ quiet: flags.quiet });
    const report = await operations.setup({
      signal: context.interrupts.signal(),
      onProgress: progress.update,
    });
    progress.stop();
    const rows = report.steps.map((step) => [step.status, step.what, step.detail]);
    context.io.stdout.write(context.json ? `${safeJson(report)}\n` : renderTable(rows));
    if (report.ready) return 0;
    const hints = report.steps.flatMap(({ hint }) => hint ?? []);
    const error = new FirectlError("HOST_UNSUPPORTED", "this machine cannot run VMs yet", {
      hint:
        hints.length === 0 ? "see the lines marked missing" : `${hints.join("; ")}; then firectl setup again`,
    });
    context.reportFailure(error);
    return exitStatusOf(error);
  },
});
