import type { Duplex } from "node:stream";
import type { Client } from "@connectrpc/connect";
import { assertNever } from "../core/assert-never.ts";
import { FirectlError } from "../core/errors.ts";
import { MIB } from "../core/units.ts";
import type { AgentSession } from "./agent-session.ts";
import type { AgentService } from "./gen/firectl/agent/v1/agent_pb.ts";

export type AgentClient = Client<typeof AgentService>;

/** Opens a stream to the agent's port, connected when it resolves. */
export type Dial = () => Promise<Duplex>;

/** A reply larger than this is not the agent's; its largest are pieces of output. */
const MAX_REPLY_BYTES = 4 * MIB;

/** How long after the stream has closed a call may still find its answer among what was received. */
const LAST_ANSWERS_MS = 100;

/** A client, and what becomes of its connection. */
export interface LiveClient {
  readonly client: AgentClient;
  /** Aborts when the connection is lost: Node and Connect leave a call waiting when the guest just dies. */
  readonly lost: AbortSignal;
}

type State =
  | { readonly kind: "idle" }
  | { readonly kind: "connecting"; readonly live: Promise<LiveClient> }
  | {
      readonly kind: "open";
      readonly live: LiveClient;
      readonly stream: Duplex;
      readonly session: AgentSession;
    }
  | { readonly kind: "closed" };

/** One HTTP/2 connection over a stream that `dial` opens: at the first call, and again once it is lost. */
export class GuestConnection implements Disposable {
  readonly #dial: Dial;
  #state: State = { kind: "idle" };

  constructor(dial: Dial) {
    this.#dial = dial;
  }

  /**
   * The client of a live connection.
   * @throws What `dial` throws; FirectlError WRONG_STATE after {@link close}.
   */
  async client(): Promise<LiveClient> {
    const state = this.#state;
    switch (state.kind) {
      case "open":
        return state.stream.destroyed ? this.#connect() : state.live;
      case "connecting":
        return state.live;
      case "idle":
        return this.#connect();
      case "closed":
        throw closedError();
      default:
        return assertNever(state);
    }
  }

  #connect(): Promise<LiveClient> {
    const live = this.#open();
    this.#state = { kind: "connecting", live };
    live.catch(() => {
      if (this.#state.kind === "connecting") this.#state = { kind: "idle" };
    });
    return live;
  }

  async #open(): Promise<LiveClient> {
    // Loaded here: a command that talks to no guest does not pay for it.
    const [{ createClient }, { createGrpcTransport }, { openAgentSession }, { AgentService }, stream] =
      await Promise.all([
        import("@connectrpc/connect"),
        import("@connectrpc/connect-node"),
        import("./agent-session.ts"),
        import("./gen/firectl/agent/v1/agent_pb.ts"),
        this.#dial(),
      ]);
    if (this.#state.kind === "closed") {
      stream.destroy();
      throw closedError();
    }
    const baseUrl = "http://agent";
    const session = openAgentSession(baseUrl, stream);
    const client = createClient(
      AgentService,
      createGrpcTransport({
        baseUrl,
        sessionManager: session,
        readMaxBytes: MAX_REPLY_BYTES,
        acceptCompression: [],
      }),
    );
    // After the session's own handler: the error reaches the calls under way, and must not reach the process.
    stream.on("error", () => {});
    const loss = new AbortController();
    stream.once("close", () => {
      if (this.#state.kind === "closed") loss.abort();
      else setTimeout(() => loss.abort(), LAST_ANSWERS_MS);
    });
    const live = { client, lost: loss.signal };
    this.#state = { kind: "open", live, stream, session };
    return live;
  }

  /** Ends the connection and every call on it. */
  close(): void {
    const state = this.#state;
    this.#state = { kind: "closed" };
    if (state.kind === "open") state.session.abort();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function closedError(): FirectlError {
  return new FirectlError("WRONG_STATE", "the connection to the guest has been closed");
}
