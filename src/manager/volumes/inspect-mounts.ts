import path from "node:path";
import type { MountRecord } from "../../state/mount-record.ts";
import type { VmRecord } from "../../state/vm-record.ts";
import type { Context } from "../context.ts";

/**
 * A record as `inspect` shows it: its mounts in Docker's form, as the field that scripts look for.
 * https://docs.docker.com/reference/api/engine/ (ContainerInspect, Mounts)
 */
export function withDockerMounts(context: Context, record: VmRecord): Readonly<Record<string, unknown>> {
  const { mounts = [], keepVolumes: _, ...rest } = record;
  const volumes = path.join(context.directories.data, "volumes");
  return { ...rest, Mounts: mounts.flatMap((mount) => shown(mount, volumes)) };
}

function shown(mount: MountRecord, volumes: string): readonly Readonly<Record<string, unknown>>[] {
  const { destination } = mount;
  switch (mount.type) {
    case "volume":
      return [
        {
          Type: "volume",
          Name: mount.name,
          Source: path.join(volumes, mount.name, "disk.ext4"),
          Destination: destination,
          Driver: "local",
          Mode: mount.readOnly ? "ro" : "",
          RW: !mount.readOnly,
          Propagation: "",
        },
      ];
    case "snapshot":
      return [bind(mount.source, { destination, readOnly: true })];
    case "share":
      return [bind(mount.source, mount)];
    case "tmpfs":
      // As in Docker, whose /dev/shm is no mount of the user's.
      if (destination === "/dev/shm") return [];
      return [
        {
          Type: "tmpfs",
          Source: "",
          Destination: destination,
          Mode: mount.options.join(","),
          RW: !mount.readOnly,
          Propagation: "",
        },
      ];
  }
}

function bind(
  source: string,
  { destination, readOnly }: { destination: string; readOnly: boolean },
): Readonly<Record<string, unknown>> {
  return {
    Type: "bind",
    Source: source,
    Destination: destination,
    Mode: readOnly ? "ro" : "",
    RW: !readOnly,
    Propagation: "rprivate",
  };
}
