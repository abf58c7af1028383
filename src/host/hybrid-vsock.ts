import { connect, type Socket } from "node:net";
import { FirectlError } from "../core/errors.ts";
import { withDeadline } from "./deadline.ts";

/**
 * Opens a stream to a port of the guest through the unix socket that Firecracker and vhost-device-vsock
 * both offer: the host writes `CONNECT <port>\n` and reads `OK <port>\n`.
 * https://github.com/firecracker-microvm/firecracker/blob/main/docs/vsock.md
 * @throws FirectlError AGENT_UNREACHABLE when nothing listens on either side, TIMEOUT.
 */
export async function dialHybridVsock(
  socketPath: string,
  options: { port: number; timeoutMs: number; signal?: AbortSignal | undefined },
): Promise<Socket> {
  const socket = connect(socketPath);
  try {
    return await withDeadline(
      {
        timeoutMs: options.timeoutMs,
        waitingFor: `the guest's vsock port ${options.port}`,
        signal: options.signal,
      },
      async () => {
        await handshake(socket, options.port);
        return socket;
      },
    );
  } catch (error) {
    socket.destroy();
    if (error instanceof FirectlError) throw error;
    throw new FirectlError("AGENT_UNREACHABLE", `cannot reach the guest through ${socketPath}`, {
      cause: error,
    });
  }
}

/** The reply is a short line; anything longer is not the protocol. */
const MAX_REPLY_BYTES = 32;

function handshake(socket: Socket, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let reply = Buffer.alloc(0);
    const fail = (error: Error): void => {
      detach();
      reject(error);
    };
    const onClose = (): void => fail(new Error("the connection was closed before the guest answered"));
    const onReadable = (): void => {
      // Byte by byte: what follows the line already belongs to the stream.
      for (let byte = socket.read(1); byte !== null; byte = socket.read(1)) {
        reply = Buffer.concat([reply, byte]);
        if (byte[0] === 0x0a) {
          const line = reply.toString("latin1");
          if (/^OK \d+\n$/.test(line)) {
            detach();
            resolve();
          } else {
            fail(new Error(`unexpected vsock reply ${JSON.stringify(line)}`));
          }
          return;
        }
        if (reply.length >= MAX_REPLY_BYTES) {
          fail(new Error("the vsock reply is not a line"));
          return;
        }
      }
    };
    const detach = (): void => {
      socket.off("error", fail).off("close", onClose).off("readable", onReadable);
    };
    socket.on("error", fail).on("close", onClose).on("readable", onReadable);
    socket.once("connect", () => socket.write(`CONNECT ${port}\n`));
  });
}
