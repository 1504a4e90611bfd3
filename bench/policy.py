"""What the policies' book costs: a cluster as people have it, and the changes that happen in one. Pure: no kernel, no root.

``cluster`` makes the objects, ``changes`` are the acts that are timed, ``measure`` does them. A pod has the labels that people
and runtimes give it, a serial number among them; an application has a policy for what comes to it and one for what it reaches.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from fairlead.model import codec
from fairlead.model.address import Address, ContainerID, Interface, InterfaceName, Name, NamedPort
from fairlead.model.endpoint import Endpoint, EndpointSpec, Sandbox
from fairlead.model.meta import Meta
from fairlead.model.namespace import Namespace
from fairlead.model.policy import NetworkPolicy
from fairlead.policy.book import Book, Thing

APPS_A_NAMESPACE = 10
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Cluster:
    """Everything that a book of this size is told."""

    namespaces: list[Namespace]
    policies: list[NetworkPolicy]
    pods: list[Endpoint]

    @property
    def things(self) -> list[Thing]:
        """All of it, as an agent that starts reads it."""
        return [*self.namespaces, *self.policies, *self.pods]


def cluster(pods: int, policies: int) -> Cluster:
    """So many pods, spread over applications, two policies for each application, ten applications in a namespace."""
    apps = max(policies // 2, 1)
    spaces = range((apps + APPS_A_NAMESPACE - 1) // APPS_A_NAMESPACE)
    return Cluster(
        [Namespace(metadata=Meta(name=f"ns{at}", labels={"tier": str(at % 5)})) for at in spaces],
        [policy for app in range(apps) for policy in (_ingress(app), _egress(app))][:policies],
        [pod(at, at % apps) for at in range(pods)],
    )


def pod(serial: int, app: int) -> Endpoint:
    """One pod of an application."""
    inner = (10 << 24) + serial + 1
    labels = {"app": f"app{app}", "tier": ("web", "api", "db")[app % 3], "fairlead.dev/pod-uid": f"uid-{serial}"}
    return Endpoint(
        metadata=Meta(name=f"pod{serial}:eth0", namespace=f"ns{app // APPS_A_NAMESPACE}", labels=labels),
        spec=EndpointSpec(
            container=ContainerID(f"pod{serial}"),
            interface=InterfaceName("eth0"),
            network=Name("pods"),
            sandbox=Sandbox(path=f"/run/netns/pod{serial}", cookie=serial + 1),
            display=f"app{app}-{serial}",
            addresses=(Interface(f"{Address(_dotted(inner))}/8"), Interface(f"fd00::{serial + 1:x}/64")),
            named_ports={"http": NamedPort(f"{8000 + app % 10}/tcp")},
        ),
    )


def _dotted(number: int) -> str:
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def _ingress(app: int, port: int = 8080) -> NetworkPolicy:
    """From its own namespace, and from web servers anywhere, at its ports."""
    return _policy(
        app,
        "in",
        {
            "ingress": [
                {"from": [{"podSelector": {}}], "ports": [{"port": port}, {"port": 9100, "endPort": 9110}]},
                {
                    "from": [
                        {"namespaceSelector": {"matchLabels": {"tier": "1"}}, "podSelector": {"matchLabels": {"tier": "web"}}}
                    ]
                },
            ]
        },
    )


def _egress(app: int) -> NetworkPolicy:
    """To the next application, to DNS, and out of the cluster."""
    inside = ["10.0.0.0/8"]
    return _policy(
        app,
        "out",
        {
            "policyTypes": ["Egress"],
            "egress": [
                {"to": [{"podSelector": {"matchLabels": {"app": f"app{app + 1}"}}}], "ports": [{"port": 8080}]},
                {"ports": [{"port": 53, "protocol": "UDP"}]},
                {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": inside}}]},
            ],
        },
    )


def _policy(app: int, name: str, spec: dict[str, object]) -> NetworkPolicy:
    tree = {"podSelector": {"matchLabels": {"app": f"app{app}"}}, **spec}
    meta = {"name": f"app{app}-{name}", "namespace": f"ns{app // APPS_A_NAMESPACE}"}
    return codec.from_tree({"kind": "NetworkPolicy", "metadata": meta, "spec": tree}, NetworkPolicy)


def changes(of: Cluster) -> dict[str, tuple[Callable[[Book], object], Callable[[Book], object]]]:
    """By name, an act and what undoes it."""
    fresh, other = pod(len(of.pods), 0), _ingress(0, port=8081)
    last = len(of.policies) // 2 - 1
    strange = structs.replace(
        fresh, metadata=structs.replace(pod(0, last - last % 30).metadata, labels={"app": "new", "tier": "web"})
    )
    new_key = _policy(
        0, "serial", {"ingress": [{"from": [{"podSelector": {"matchLabels": {"fairlead.dev/pod-uid": "uid-3"}}}]}]}
    )
    everybody = codec.from_item(
        {
            "kind": "ClusterNetworkPolicy",
            "metadata": {"name": "all"},
            "spec": {
                "tier": "Admin",
                "priority": 1,
                "subject": {"namespaces": {}},
                "ingress": [{"action": "Deny", "from": [{"namespaces": {"matchLabels": {"tier": "4"}}}]}],
            },
        }
    )
    old = of.policies[0]
    return {
        "a pod comes": (lambda book: book.put(fresh), lambda book: book.drop(fresh)),
        "a pod unlike all others comes": (lambda book: book.put(strange), lambda book: book.drop(strange)),
        "a pod goes": (lambda book: book.drop(of.pods[7]), lambda book: book.put(of.pods[7])),
        "a policy comes": (lambda book: book.put(old), lambda book: book.drop(old)),
        "a policy changes": (lambda book: book.put(other), lambda book: book.put(old)),
        "a policy looks at a label that none did": (lambda book: book.put(new_key), lambda book: book.drop(new_key)),
        "a policy for everybody comes": (lambda book: book.put(everybody), lambda book: book.drop(everybody)),
    }


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def measure(pods: int, policies: int, turns: int = 9) -> Iterator[tuple[str, float, str]]:
    """What, how much, in which unit."""
    of = cluster(pods, policies)
    before = resident()
    book = Book()
    begun = time.perf_counter()
    book.put(*of.things)
    yield "all of it at once", time.perf_counter() - begun, "s"
    yield "the book in memory", (resident() - before) / 1e6, "MB"
    for name, (act, undo) in changes(of).items():
        took = []
        if name == "a policy comes":
            undo(book)
        for _ in range(turns):
            begun = time.perf_counter()
            act(book)
            took.append(time.perf_counter() - begun)
            undo(book)
        if name == "a policy comes":
            act(book)
        yield name, statistics.median(took) * 1e3, "ms"


if __name__ == "__main__":
    counts = [int(word) for word in sys.argv[1:3]] or [1000, 1000]
    for what, amount, unit in measure(*counts):
        print(f"{what:<42} {amount:>10.2f} {unit}")
