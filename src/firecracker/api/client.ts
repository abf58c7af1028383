import { errnoOf, FirectlError, messageOf } from "../../core/errors.ts";
import { HttpOverUds, type JsonReply, type JsonRequest } from "../../host/http-over-uds.ts";
import type {
  ChangeCall,
  ConfigurationCall,
  InstanceAction,
  RawCall,
  SnapshotCreateParams,
} from "./types.ts";

export interface ApiOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Errors of a connection that Firecracker does not offer yet, or no more. */
const NOT_LISTENING: ReadonlySet<string | undefined> = new Set(["ENOENT", "ECONNREFUSED"]);

/**
 * Firecracker's REST API on its unix socket.
 * Each method throws FirectlError VMM_REFUSED with the endpoint and Firecracker's own words, VMM_FAILED when the
 * connection breaks, TIMEOUT.
 */
export class FirecrackerApi implements Disposable {
  readonly #http: HttpOverUds;
  readonly #options: ApiOptions;

  constructor(socketPath: string, options: ApiOptions) {
    this.#http = new HttpOverUds(socketPath);
    this.#options = options;
  }

  /** Connects; false while nothing listens on the socket. */
  async connectIfListening(): Promise<boolean> {
    try {
      await this.#http.connect();
      return true;
    } catch (error) {
      if (NOT_LISTENING.has(errnoOf(error))) return false;
      throw new FirectlError("VMM_FAILED", `Firecracker does not let us connect: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  /** GET /: whether the guest runs. */
  async instanceState(): Promise<"Not started" | "Running" | "Paused"> {
    const state = stringField(await this.#send({ method: "GET", path: "/" }), "state");
    if (state === "Not started" || state === "Running" || state === "Paused") return state;
    throw new FirectlError("VMM_FAILED", `Firecracker is in a state that firectl does not know: ${state}`);
  }

  /** A PUT for each part of the configuration, in order, all of them sent at once. */
  async configure(calls: readonly (ConfigurationCall | RawCall)[]): Promise<void> {
    await this.#sendAll(calls.map(({ path, body }) => ({ method: "PUT", path, body })));
  }

  /** PATCH of one part of a machine that runs. */
  async change(call: ChangeCall): Promise<void> {
    await this.#send({ method: "PATCH", path: call.path, body: call.body });
  }

  /** PUT /actions. */
  async act(action: InstanceAction): Promise<void> {
    await this.#send({ method: "PUT", path: "/actions", body: { action_type: action } });
  }

  /** PATCH /vm: stops the guest's processors, or lets them go on. */
  async setState(state: "Paused" | "Resumed"): Promise<void> {
    await this.#send({ method: "PATCH", path: "/vm", body: { state } });
  }

  /** PUT /snapshot/create: of a guest that is paused. */
  async createSnapshot(body: SnapshotCreateParams): Promise<void> {
    await this.#send({ method: "PUT", path: "/snapshot/create", body });
  }

  [Symbol.dispose](): void {
    this.#http.close();
  }

  async #send(request: Pick<JsonRequest, "method" | "path" | "body">): Promise<JsonReply> {
    const [reply] = await this.#sendAll([request]);
    if (reply === undefined) throw new Error("one request has one reply");
    return reply;
  }

  async #sendAll(requests: readonly Pick<JsonRequest, "method" | "path" | "body">[]): Promise<JsonReply[]> {
    const names = requests.map(({ method, path }) => `${method} ${path}`);
    let replies: JsonReply[];
    try {
      replies = await this.#http.requestAll(requests, this.#options);
    } catch (error) {
      if (errnoOf(error) === undefined || error instanceof FirectlError) throw error;
      const message = `Firecracker did not answer ${names.join(", ")}: ${messageOf(error)}`;
      throw new FirectlError("VMM_FAILED", message, { cause: error });
    }
    const refused = replies.findIndex(({ status }) => status < 200 || status >= 300);
    const reply = replies[refused];
    if (reply === undefined) return replies;
    throw new FirectlError("VMM_REFUSED", `Firecracker refused ${names[refused]}: ${faultOf(reply)}`);
  }
}

function faultOf(reply: JsonReply): string {
  const { body } = reply;
  if (typeof body === "object" && body !== null && "fault_message" in body) return String(body.fault_message);
  return `status ${reply.status}`;
}

function stringField(reply: JsonReply, name: string): string {
  const body: unknown = reply.body;
  const value =
    typeof body === "object" && body !== null
      ? Object.entries(body).find(([key]) => key === name)
      : undefined;
  if (typeof value?.[1] === "string") return value[1];
  throw new FirectlError("VMM_FAILED", `Firecracker's answer has no ${name}`);
}
