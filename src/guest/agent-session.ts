import { connect, constants } from "node:http2";
import type { Duplex } from "node:stream";
import type { GrpcTransportOptions } from "@connectrpc/connect-node";
import { FirectlError } from "../core/errors.ts";
import { MIB } from "../core/units.ts";

/** What may arrive before we have read it: with Node's default of 64 KiB output waits for round trips. */
const WINDOW_BYTES = 1 * MIB;

/** What Connect sends its calls over: an HTTP/2 session that lives as long as its stream. */
export interface AgentSession extends NonNullable<GrpcTransportOptions["sessionManager"]> {
  /** Ends the session, every call on it, and the stream. */
  abort(): void;
}

/**
 * An HTTP/2 session over a stream to the agent. Not Connect's Http2SessionManager: that one lets go of the
 * session's errors when it aborts, and what is wrong with a guest's bytes may become known only after that.
 */
export function openAgentSession(authority: string, stream: Duplex): AgentSession {
  const session = connect(authority, {
    createConnection: () => stream,
    settings: { initialWindowSize: WINDOW_BYTES, enablePush: false },
    maxSessionMemory: 16, // MiB; more than the replies of this connection can take
  });
  // For as long as there is a session: its errors reach the calls under way, and must not reach the process.
  session.on("error", () => {});
  // A connection that is at rest does not keep the process.
  let calls = 0;
  session.unref();
  return {
    authority,
    async request(method, path, headers, options) {
      if (session.closed || session.destroyed) {
        throw new FirectlError("AGENT_UNREACHABLE", "the guest has closed its connection");
      }
      const call = session.request({ ...headers, ":method": method, ":path": path }, options);
      calls++;
      session.ref();
      call.once("close", () => {
        calls--;
        if (calls === 0) session.unref();
      });
      return call;
    },
    notifyResponseByteRead() {},
    abort() {
      const reason = new FirectlError("AGENT_UNREACHABLE", "the connection to the guest has been closed");
      session.destroy(reason, constants.NGHTTP2_CANCEL);
      stream.destroy();
    },
  };
}
