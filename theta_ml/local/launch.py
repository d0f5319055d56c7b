"""Become a program: read its command, log and environment from a file of mode 0600, and exec it.

So that neither the supervisor's configuration nor a command line holds a secret, and nothing needs quoting. The log
is opened here because a pipe to the supervisor would break with it, and with the scheduler for the tasks it leaves
behind: a task that cannot log fails.
"""

import json
import os
import sys
from pathlib import Path


def main(file: Path) -> None:
    program = json.loads(file.read_text(encoding="utf-8"))
    log = os.open(program["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    command: list[str] = program["command"]
    os.execve(command[0], command, program["environment"])  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
