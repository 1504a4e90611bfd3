"""How our interfaces are told from other people's: by their group, a number that the kernel keeps (``ip -d link``)."""

GROUP = 0x666C
"""The group of every interface that Fairlead made ("fl")."""

LIMIT = 0x666C
"""The handle of our token buckets and the priority of our redirections, on interfaces that are ours or another's."""

DOOMED = 0x666D
"""The group into which interfaces are put that go in one batch."""

PROTOCOL = 102
"""What our routes say of who made them (RTA_PROTOCOL)."""

SILENT = "169.254.119.103"
"""An address that our WireGuard devices have and that is used for nothing (``crypts``)."""

APART = 0x666C
"""The routing table of paths that are ``apart``, and the priority of the rules that lead there."""
