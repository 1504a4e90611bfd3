"""Wait for one process, then become the program that cleans up after it, with the exit status as its last argument.

Run by path in an isolated interpreter (``python -I -S monitor.py PID PROGRAM ARGUMENT...``): it stays as long as its
container, so it imports nothing that Python has not loaded anyway.
"""

import os
import sys


def main() -> None:
    """Wait, then exec."""
    _, pid, program, *arguments = sys.argv
    _, waited = os.waitpid(int(pid), 0)
    code = os.waitstatus_to_exitcode(waited)
    os.execv(program, [program, *arguments, str(code if code >= 0 else 128 - code)])  # noqa: S606  # what it is for


if __name__ == "__main__":
    main()
