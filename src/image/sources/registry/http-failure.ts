import { errnoOf, FirectlError, messageOf } from "../../../core/errors.ts";
import { isTransientErrno, TransientFailure } from "./retry.ts";

/** A kept connection that the server ended just when it was used again: a new one may work at once. */
export class StaleConnection extends Error {
  override readonly cause: Error;

  constructor(cause: Error) {
    super(cause.message);
    this.cause = cause;
  }
}

/** Certificates that are right as far as can be told, but that nobody known vouches for. */
const UNKNOWN_AUTHORITY = new Set([
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
]);

/** Whether a connection failed for want of an authority that vouches for the other side. */
export function isUnknownAuthority(error: unknown): boolean {
  return UNKNOWN_AUTHORITY.has(errnoOf(error) ?? "");
}

/** What the caller of a request is told of what Node or a tunnel threw; an abort's reason stays what it is. */
export function failureOf(where: { url: URL; proxy: string | undefined }, thrown: unknown): unknown {
  const { url, proxy } = where;
  const error = thrown instanceof StaleConnection ? thrown.cause : thrown;
  if (error instanceof FirectlError || error instanceof TransientFailure) return error;
  const errno = errnoOf(error);
  if (errno === undefined || errno === "ABORT_ERR") return error;
  if (speaksPlainHttp(error)) return plainHttpRegistry(url, error);
  const way = proxy === undefined ? "" : ` through proxy ${proxy}`;
  const message = `cannot reach ${url.host}${way}: ${reasonOf(error)}`;
  const failure = new FirectlError("REGISTRY_UNREACHABLE", message, {
    hint: hintFor(url, errno),
    cause: error,
  });
  return isTransientErrno(errno) ? new TransientFailure(failure) : failure;
}

/** OpenSSL's words for an answer in plain text to its greeting. */
function speaksPlainHttp(error: unknown): boolean {
  return /wrong version number|packet length too long|http request|unknown protocol/i.test(messageOf(error));
}

function plainHttpRegistry(url: URL, error: unknown): FirectlError {
  return new FirectlError(
    "REGISTRY_UNREACHABLE",
    `${url.host} does not speak HTTPS; it may be a registry in plain HTTP`,
    {
      hint: `if it is and you trust the network to it, name ${url.host} in FIRECTL_INSECURE_REGISTRIES or in insecureRegistries of config.json`,
      cause: error,
    },
  );
}

function hintFor(url: URL, errno: string): string {
  const insecure = `name ${url.host} in FIRECTL_INSECURE_REGISTRIES or in insecureRegistries of config.json`;
  if (/^ERR_(?:SSL|OSSL|TLS)_.*CERTIFICATE_REQUIRED|ALERT_(?:BAD_CERTIFICATE|HANDSHAKE)/.test(errno)) {
    return `if it asks for a client certificate, put that into ~/.config/containers/certs.d/${url.host}/ as client.cert and client.key`;
  }
  if (UNKNOWN_AUTHORITY.has(errno)) {
    return `put its authority's certificate into ~/.config/containers/certs.d/${url.host}/ca.crt, make it known with NODE_EXTRA_CA_CERTS, or ${insecure}`;
  }
  if (/CERT/.test(errno)) return `have its certificate mended, or ${insecure}`;
  return "check the name, the network and a proxy in between, then try again";
}

/** Of several addresses that were tried in vain, the first one's failure; Node's own message is empty. */
function reasonOf(error: unknown): string {
  const first = error instanceof AggregateError ? error.errors[0] : error;
  return messageOf(first);
}
