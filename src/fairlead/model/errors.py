"""What can be wrong with a request, as one tree. The edges translate it: HTTP status, CNI error code, exit status.

::

    Problem
    ├── Invalid       the input itself is wrong; names the field and what would be right
    ├── Missing       what the request names does not exist
    ├── Conflict      it is taken: a name, an address, a port, a subnet; names the holder
    ├── Exhausted     nothing is left to give; names the pool, its size and the holders
    ├── Unsupported   this kernel or this build cannot; names what is missing and the minimum version
    ├── Forbidden     the caller may not
    ├── Unavailable   not now: the agent, the store or a peer cannot be reached; try again
    └── Failed        the kernel or a program refused; says what was being done
"""

from __future__ import annotations


class Problem(Exception):
    """Something that a person or a runtime must be told: which field (may be empty), and what would be right."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message

    def under(self, field: str) -> Problem:
        """The same problem seen from outside: ``field`` is put before the field it names."""
        inner = f"{field}.{self.field}" if self.field else field
        return type(self)(self.message, field=inner)


class Invalid(Problem):
    """The input is wrong."""


class Missing(Problem):
    """What the request names does not exist."""


class Conflict(Problem):
    """What the request wants is taken; the message names the holder, ``revision`` the holder's version if it is an object."""

    def __init__(self, message: str, *, field: str = "", revision: str = "") -> None:
        super().__init__(message, field=field)
        self.revision = revision


class Exhausted(Problem):
    """Nothing is left to give; the message names the pool, its size and who holds it."""


class Unsupported(Problem):
    """The machine or the build lacks something; the message names it and the minimum version."""


class Forbidden(Problem):
    """The caller is not allowed to do this."""


class Unavailable(Problem):
    """It cannot be done now; trying again later may work."""


class Failed(Problem):
    """The kernel or a program refused; the message says what was being done."""
