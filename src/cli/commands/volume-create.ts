import { FirectlError } from "../../core/errors.ts";
import { type Command, defineCommand } from "../command.ts";
import { collectLabels, parseKeyValue } from "../key-values.ts";
import { parseVolumeOption } from "../mount-flags.ts";
import { choice, parseText } from "../values.ts";

const parseDriver: (text: string, flag: string) => "local" = choice("local");

export const volumeCreate: Command = defineCommand({
  name: "volume create",
  summary: "Make a volume",
  description: [
    "A volume is an ext4 disk that outlives VMs; its file takes only what is written to it. One that is",
    "there already stays as it is. The first VM to mount an empty one fills it from its image.",
  ].join("\n"),
  arguments: "[NAME]",
  minArguments: 0,
  maxArguments: 1,
  flags: {
    driver: {
      kind: "value",
      short: "d",
      placeholder: "local",
      parse: parseDriver,
      summary: "Kind of volume: there is one",
    },
    label: { kind: "list", placeholder: "KEY=VALUE", parse: parseKeyValue, summary: "Label the volume" },
    name: { kind: "value", placeholder: "NAME", parse: parseText, summary: "Name of the volume" },
    opt: {
      kind: "list",
      short: "o",
      placeholder: "size=SIZE",
      parse: parseVolumeOption,
      summary: "Size of its filesystem (default 10g)",
    },
  },
  examples: ["firectl volume create data", "firectl volume create -o size=50g --label app=db pgdata"],
  async handler({ flags, args: [name] }, context) {
    if (name !== undefined && flags.name !== undefined) {
      throw new FirectlError("INVALID_ARGUMENT", "volume create: conflicting options: either --name or NAME");
    }
    const wanted = name ?? flags.name;
    const option = flags.opt.at(-1);
    const volume = await (await context.firectl()).createVolume({
      labels: collectLabels({ files: [], pairs: flags.label }),
      ...(wanted === undefined ? {} : { name: wanted }),
      ...(option === undefined
        ? {}
        : { sizeBytes: option.sizeBytes, options: { [option.key]: option.value } }),
    });
    context.io.stdout.write(`${volume.name}\n`);
    return 0;
  },
});
