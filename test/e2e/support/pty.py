"""Runs a program on a pseudo-terminal of its own, as a terminal emulator does.

usage: pty.py ROWS COLUMNS PROGRAM [ARG...]

Commands come as lines of JSON on stdin: {"write": BASE64}, {"resize": [ROWS, COLUMNS]}, {"modes": true},
{"hangup": true}. Events go as lines of JSON to stdout: {"pid": N}, {"output": BASE64}, {"modes": [NAME...]},
{"exit": STATUS}.
"""

import base64
import fcntl
import json
import os
import select
import struct
import sys
import termios

NAMES = {
    "icrnl": (0, termios.ICRNL), "ixon": (0, termios.IXON), "opost": (1, termios.OPOST),
    "echo": (3, termios.ECHO), "icanon": (3, termios.ICANON), "isig": (3, termios.ISIG),
    "iexten": (3, termios.IEXTEN),
}


def tell(**event):
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def resize(master, rows, columns):
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def start(argv, rows, columns):
    master, slave = os.openpty()
    resize(master, rows, columns)
    pid = os.fork()
    if pid == 0:
        os.close(master)
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for descriptor in (0, 1, 2):
            os.dup2(slave, descriptor)
        os.close(slave)
        os.execvp(argv[0], argv)
    return pid, master, slave


def obey(line, master):
    command = json.loads(line)
    if "write" in command:
        os.write(master, base64.b64decode(command["write"]))
    elif "resize" in command:
        resize(master, *command["resize"])
    elif "modes" in command:
        modes = termios.tcgetattr(master)
        tell(modes=sorted(name for name, (index, bit) in NAMES.items() if modes[index] & bit))


def main():
    rows, columns, argv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    pid, master, slave = start(argv, rows, columns)
    tell(pid=pid)
    pending = b""
    inputs = [master, 0]
    status = None
    while True:
        readable, _, _ = select.select(inputs, [], [], 0.05)
        if master in readable:
            tell(output=base64.b64encode(os.read(master, 65536)).decode())
            continue
        if 0 in readable:
            data = os.read(0, 65536)
            if not data:
                inputs = [master]
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                if json.loads(line).get("hangup"):
                    os.close(slave)
                    os.close(master)
                    _, status = os.waitpid(pid, 0)
                    tell(exit=os.waitstatus_to_exitcode(status))
                    return
                obey(line, master)
        # Our own slave end keeps what the program has set, and written, when it ends.
        if status is None:
            ended, code = os.waitpid(pid, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if ended else None
        elif not readable:
            obey('{"modes": true}', master)
            tell(exit=status)
            return


main()
