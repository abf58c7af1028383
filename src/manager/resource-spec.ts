import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ProcessSchema } from "../guest/gen/firectl/agent/v1/control_pb.ts";
import type { ResourcesSchema } from "../guest/gen/firectl/agent/v1/resources_pb.ts";
import type { ResourceRecord } from "../state/resource-record.ts";
import { receiveWindowSetting } from "./network/receive-window.ts";

/** RLIM_INFINITY. */
const UNLIMITED = 2n ** 64n - 1n;

/** What the guest is told of limits and privileges: proto/firectl/agent/v1/resources.proto. */
export function resourceSpec(record: ResourceRecord): MessageInitShape<typeof ResourcesSchema> {
  const { capabilities, domain, hosts, dns, dnsSearch, dnsOptions } = record;
  const hasNames = [domain, hosts, dns, dnsSearch, dnsOptions].some((value) => value !== undefined);
  return {
    cpuQuotaUs: record.cpuQuotaUs ?? 0,
    swapBytes: BigInt(record.swapBytes ?? 0),
    pidsLimit: record.pidsLimit ?? 0,
    oomScoreAdj: record.oomScoreAdj ?? 0,
    // The user's own win.
    sysctls: { ...receiveWindowSetting(record.networkLimit), ...record.sysctls },
    privileges: {
      capabilities: capabilities ?? [],
      defaultCapabilities: capabilities === undefined && record.allCapabilities !== true,
      allCapabilities: record.allCapabilities ?? false,
      noNewPrivileges: record.noNewPrivileges ?? false,
      unmasked: record.unmasked ?? false,
      allDevices: record.allDevices ?? false,
      groups: record.groups ?? [],
    },
    ...(hasNames
      ? {
          names: {
            domain: domain ?? "",
            hosts: hosts ?? [],
            servers: dns ?? [],
            search: dnsSearch ?? [],
            options: dnsOptions ?? [],
          },
        }
      : {}),
  };
}

/** The limits of a process. */
export function rlimitsSpec(
  record: ResourceRecord | undefined,
): NonNullable<MessageInitShape<typeof ProcessSchema>["rlimits"]> {
  const limit = (value: number): bigint => (value === -1 ? UNLIMITED : BigInt(value));
  return (record?.ulimits ?? []).map(({ type, soft, hard }) => ({
    type,
    soft: limit(soft),
    hard: limit(hard),
  }));
}
