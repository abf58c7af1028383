import { FirectlError } from "../../core/errors.ts";
import type { LoginReport } from "../../manager/api.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import { safeJson } from "../sanitize.ts";
import { parseText } from "../values.ts";

/** Longer than any token. */
const MAX_PASSWORD_BYTES = 64 * 1024;

export const login: Command = defineCommand({
  name: "login",
  summary: "Log in to a registry",
  description: [
    "The registry, Docker Hub by default, is asked before anything is kept. The login goes to the credential",
    "helper that Docker's config.json names, or else into that file. Without -u and -p a login that is",
    "known is checked; if there is none, user and password are asked for.",
  ].join("\n"),
  arguments: "[REGISTRY]",
  minArguments: 0,
  maxArguments: 1,
  flags: {
    username: { kind: "value", short: "u", placeholder: "USER", parse: parseText, summary: "User name" },
    password: {
      kind: "value",
      short: "p",
      placeholder: "PASSWORD",
      parse: parseText,
      summary: "Password or token; other users of this machine can see it",
    },
    "password-stdin": { kind: "boolean", summary: "Read the password from stdin" },
  },
  examples: ["firectl login registry.example", "firectl login -u me --password-stdin ghcr.io <token.txt"],
  async handler({ flags, args: [registry] }, context) {
    const { username } = flags;
    const password = await givenPassword(flags, context);
    const signal = context.interrupts.signal();
    const operations = await context.firectl();
    const where = { ...defined({ registry }), signal };
    if (username === undefined && password === undefined) {
      try {
        return report(await operations.login(where), context);
      } catch (error) {
        // Where none is known, or it is refused, the user may have a better one.
        if (!(error instanceof FirectlError && error.code === "AUTHENTICATION_FAILED")) throw error;
      }
    }
    const prompt = { signal };
    const user = username ?? (await context.io.prompt("Username: ", { ...prompt, hidden: false }));
    const secret = password ?? (await context.io.prompt("Password: ", { ...prompt, hidden: true }));
    return report(await operations.login({ ...where, username: user.trim(), password: secret }), context);
  },
});

async function givenPassword(
  flags: { username: string | undefined; password: string | undefined; "password-stdin": boolean },
  { io }: CommandContext,
): Promise<string | undefined> {
  if (!flags["password-stdin"]) {
    if (flags.password !== undefined) {
      io.stderr.write(
        "warning: a password on the command line can be read by others, use --password-stdin\n",
      );
    }
    return flags.password;
  }
  if (flags.password !== undefined) {
    throw new FirectlError("INVALID_ARGUMENT", "--password and --password-stdin exclude each other");
  }
  if (flags.username === undefined) {
    throw new FirectlError("INVALID_ARGUMENT", "--password-stdin needs the user name, with -u");
  }
  return readPassword(io.stdin);
}

/** All of stdin but the line break at its end, as docker takes it. */
async function readPassword(stdin: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of stdin) {
    size += part.byteLength;
    if (size > MAX_PASSWORD_BYTES) {
      throw new FirectlError(
        "INVALID_ARGUMENT",
        `stdin has more than ${MAX_PASSWORD_BYTES} bytes: that is no password`,
      );
    }
    parts.push(part);
  }
  return Buffer.concat(parts)
    .toString("utf8")
    .replace(/\r?\n$/, "");
}

function report(done: LoginReport, { io, json }: CommandContext): number {
  if (done.isPlain) {
    io.stderr.write(
      `warning: the login is kept unencrypted in ${done.storedIn}; a credential helper would keep it safe: https://docs.docker.com/go/credential-store/\n`,
    );
  }
  io.stdout.write(json ? `${safeJson(done)}\n` : "Login Succeeded\n");
  return 0;
}
