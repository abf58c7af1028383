import type { VmRecord } from "../state/vm-record.ts";
import { isVmmAlive, livesNow } from "./records.ts";

/** What a record needs, judged from the processes that really run. */
type Mending =
  /** Nothing: it is true, or a living firectl works on it. */
  | "none"
  /** Its VMM has ended: the record must say how. */
  | "finish"
  /** Its firectl was killed while it started or attended it again: it must end, its disk stays. */
  | "end"
  /** Its firectl was killed while making, removing or attending it: nothing of it may stay. */
  | "destroy";

/** What must be done about one record. */
export function mendingOf(record: VmRecord): Mending {
  const ownerLives = livesNow(record, record.owner);
  const withoutOwner = record.restarted ? "end" : "destroy";
  switch (record.state) {
    case "removing":
      return ownerLives ? "none" : "destroy";
    case "creating":
      return ownerLives ? "none" : withoutOwner;
    case "running":
      if (record.attached && !ownerLives) return withoutOwner;
      return isVmmAlive(record) ? "none" : "finish";
    case "exited":
    case "dead":
      return "none";
  }
}
