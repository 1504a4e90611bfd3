"""What one agent was started with. Everything has a default; the environment and the command line set the rest."""

from __future__ import annotations

import platform
from pathlib import Path

from fairlead.api import wire
from fairlead.model.address import Address, Prefix
from fairlead.model.errors import Invalid
from fairlead.model.meta import Value


class Settings(Value, frozen=True, kw_only=True):
    """Directories, identity and the pace of the agent. Times in seconds.

    ``debounce``: how long an event waits for its companions before the kernel is compared; ``interval``: how often it is
    compared although nothing was heard; ``linger``: how long detached endpoints wait to be removed together; ``gc_grace``:
    how long a collection spares a container that its runtime does not list; ``ttl``: after how long without a sign of life
    other nodes take this one for gone. ``address_rest``: for how long an address of a network that nodes share lies idle before
    another container has it. ``key_age``: after how long a WireGuard key is replaced, 0 for never; ``key_grace``: for
    how long an old one is still good once everybody has a newer one. ``flow_buffer``: KiB in which events wait for the agent,
    a power of two; ``map_sizes``: the room of eBPF maps. ``node_access``: whether this node reaches its own containers, as for
    probes, whatever policies say; ``short_way``: whether two containers of a network may reach each other past the bridge,
    or past the nodes' stacks; ``tcx``: whether programs stand at uplinks and tunnels by tcx, where the kernel can.
    ``metrics``: ADDRESS:PORT where Prometheus may ask; empty: nowhere. ``pod_network``: of a cluster's node, the network of
    its pods; ``pod_cidr`` and ``pod_driver``: what that is made with where there is none. ``network_status``: whether
    pods that ask for further networks are told in an annotation what they got.
    """

    run_dir: str
    state_dir: str
    node: str
    group: str = ""
    node_ip: str = ""
    store: str = ""
    plane: str = "auto"
    ipv6: bool = False
    node_access: bool = True
    short_way: bool = True
    tcx: bool = True
    flow_buffer: int = 1024
    map_sizes: tuple[tuple[str, int], ...] = ()
    metrics: str = ""
    debounce: float = 0.05
    interval: float = 30.0
    linger: float = 0.005
    gc_grace: float = 10.0
    ttl: float = 10.0
    address_rest: float = 2.0
    key_age: float = 0.0
    key_grace: float = 60.0
    pod_network: str = "default"
    pod_cidr: str = ""
    pod_driver: str = "vxlan"
    network_status: bool = False

    @property
    def kubernetes(self) -> bool:
        """Whether this is a node of a Kubernetes cluster."""
        return self.store.startswith("kubernetes:")

    @property
    def pod_subnets(self) -> tuple[Prefix, ...]:
        """The addresses of the cluster's pods; none: as its nodes' podCIDRs say."""
        try:
            return tuple(Prefix(word) for word in self.pod_cidr.split(",") if word)
        except ValueError as problem:
            raise Invalid(str(problem), field="pod-cidr") from None

    @property
    def addresses(self) -> tuple[Address, ...]:
        """By which other nodes reach this one; none: those of its uplink."""
        try:
            return tuple(Address(word) for word in self.node_ip.split(",") if word)
        except ValueError as problem:
            raise Invalid(str(problem), field="node-ip") from None

    @property
    def run(self) -> Path:
        """What belongs to this boot: socket, pid file, names of namespaces."""
        return Path(self.run_dir)

    @property
    def sizes(self) -> dict[str, int]:
        """The room of eBPF maps, where it is not what they have by themselves."""
        return {**dict(self.map_sizes), "events": self.flow_buffer << 10}

    @property
    def state(self) -> Path:
        """What outlives a reboot: the store, remembered DELs."""
        return Path(self.state_dir)


def settings(*, node: str = "", **given: object) -> Settings:
    """The settings of this process: directories from the environment, the rest as given."""
    return Settings(
        run_dir=str(wire.run_dir()),
        state_dir=str(wire.state_dir()),
        node=node or platform.node().lower() or "node",
        **given,  # type: ignore[arg-type]  # the names and types are those of the command line, which was checked
    )
