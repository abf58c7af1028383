/**
 * Fields of docker's `inspect` of a container, and where our `inspect` of a VM has the same. docs/templates.md shows
 * them. https://docs.docker.com/reference/api/engine/
 */
export const DOCKER_FIELDS: Readonly<Record<string, string>> = {
  "State.Status": ".state",
  "State.ExitCode": ".exitCode",
  "State.OOMKilled": ".oomKilled",
  "State.Error": ".error",
  "State.Pid": ".firecrackerPid",
  "State.StartedAt": ".startedAt",
  "State.FinishedAt": ".finishedAt",
  "State.Health.Status": ".health.status",
  "State.Health.FailingStreak": ".health.failingStreak",
  "State.Health.Log": ".health.log",
  Created: ".createdAt",
  Image: ".imageDigest",
  Args: ".workload.args",
  "Config.Image": ".imageName",
  "Config.Cmd": ".workload.args",
  "Config.Env": ".workload.env",
  "Config.User": ".workload.user",
  "Config.WorkingDir": ".workload.cwd",
  "Config.Hostname": ".workload.hostname",
  "Config.Labels": ".labels",
  "Config.StopSignal": ".workload.stopSignal",
  "HostConfig.AutoRemove": ".autoRemove",
  "HostConfig.Memory": ".memoryMib",
  "HostConfig.NanoCpus": ".cpus",
};

/** What docker's field is called in a VM's record; undefined for one that there is not, and for other objects. */
export function dockerFieldHere(
  path: readonly string[],
  record: Readonly<Record<string, unknown>>,
): string | undefined {
  if (!Object.hasOwn(record, "imageName")) return undefined;
  const wanted = path.join(".").toLowerCase();
  const [, here] = Object.entries(DOCKER_FIELDS).find(([docker]) => docker.toLowerCase() === wanted) ?? [];
  return here;
}
