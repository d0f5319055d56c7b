"""Become a program: read its command and environment from a file of mode 0600, and exec it.

So that neither the supervisor's configuration nor a command line holds a secret, and nothing needs quoting.
"""

import json
import os
import sys
from pathlib import Path


def main(file: Path) -> None:
    program = json.loads(file.read_text(encoding="utf-8"))
    command: list[str] = program["command"]
    os.execve(command[0], command, program["environment"])  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
