import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { FirectlError } from "../core/errors.ts";

/**
 * Checks that a program of firectl's own is there.
 * @param what What it does, for the message.
 * @throws FirectlError FILE_NOT_FOUND.
 */
export async function requireOwnProgram(program: string, what: string): Promise<void> {
  try {
    await access(program, constants.X_OK);
  } catch (error) {
    throw new FirectlError("FILE_NOT_FOUND", `${what} is missing: ${program}`, {
      hint: "install firectl again, or build it with: make agent",
      cause: error,
    });
  }
}
