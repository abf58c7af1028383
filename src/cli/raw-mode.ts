import type { ReadStream } from "node:tty";

/**
 * Makes a terminal hand every key on as it is typed and show what is written as it is, until the returned
 * function is called or this process ends, however it does short of SIGKILL. Being stopped and continued by the
 * shell that it was started from is part of it.
 */
export async function makeRaw(stdin: ReadStream): Promise<() => void> {
  let isOurs = true;
  const enter = async (): Promise<void> => {
    // Twice: what is raw already is not set again, and a shell has set it back while we were stopped.
    stdin.setRawMode(false);
    stdin.setRawMode(true);
    await finishRawMode();
    if (!isOurs) stdin.setRawMode(false);
  };
  const suspend = (): void => {
    stdin.setRawMode(false);
    process.kill(process.pid, "SIGSTOP");
  };
  const resume = (): void => void enter();
  process.on("SIGTSTP", suspend).on("SIGCONT", resume);
  await enter();
  return () => {
    isOurs = false;
    process.off("SIGTSTP", suspend).off("SIGCONT", resume);
    stdin.setRawMode(false);
  };
}

/**
 * Node's raw mode leaves what is written to be edited (a line feed becomes two characters), which garbles what a
 * program of the guest draws. Node itself sets everything back in the end.
 */
async function finishRawMode(): Promise<void> {
  const { streamProgram } = await import("../host/process.ts");
  // Where there is no stty, Node's raw mode has to do.
  await streamProgram("stty", ["raw", "-echo", "-iexten"], { stdin: 0 }).finished.catch(() => {});
}
