"""The agent as a host runs it: its own files, its defaults, and Docker's socket where Docker looks."""

from __future__ import annotations

import sys

from fairlead.api.client import Client
from fairlead.model import errors
from fairlead.model.endpoint import Endpoint
from fairlead.model.reservation import Reservation
from tests.runtimes.host import Host
from tests.wait import eventually


class Agent:
    """``python -m fairlead.agent`` on a host; ``start``, ``stop`` and ``kill`` as often as a test likes."""

    def __init__(self, host: Host, *options: str) -> None:
        self._host = host
        self.daemon = host.daemon(sys.executable, "-m", "fairlead.agent", *options)
        self.client = Client(host.run_dir / "agent.sock")

    @property
    def log(self) -> str:
        return self.daemon.log

    def start(self) -> None:
        self.daemon.start()
        eventually(self._ready, deadline=20, what="the agent is ready")

    def stop(self) -> None:
        self.daemon.stop()

    def kill(self) -> None:
        self.daemon.kill()

    def endpoints(self) -> list[Endpoint]:
        """Every endpoint there is."""
        return [one for one in self.client.objects("endpoints") if isinstance(one, Endpoint)]

    def reserved(self) -> list[Reservation]:
        """Everything that is reserved."""
        return [one for one in self.client.objects("reservations") if isinstance(one, Reservation)]

    def drift(self) -> list[str]:
        """What doctor finds different, as text."""
        return [f"{d.table} {d.key} {d.kind} {d.want} {d.have}" for f in self.client.doctor().findings for d in f.drift]

    def _ready(self) -> bool:
        self.daemon.alive()
        try:
            return self.client.status().ready
        except errors.Unavailable:
            return False
