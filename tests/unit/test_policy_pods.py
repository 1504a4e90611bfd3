"""Pods of other nodes as endpoints: who has an address, whatever Kubernetes tells in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fairlead.model.address import Interface
from fairlead.model.endpoint import Endpoint
from fairlead.model.meta import Meta
from fairlead.model.pod import UID_LABEL as UID
from fairlead.model.pod import Pod, PodContainer, PodIP, PodPort, PodSpec, PodStatus, peer
from fairlead.policy.pods import Pods, Step


def pod(
    name: str = "web", ip: str = "10.0.0.1", *, uid: str = "", node: str = "node-2", phase: str = "Running", **meta: str
) -> Pod:
    labels = {"app": meta.pop("app", "web")}
    return Pod(
        metadata=Meta(name=name, namespace="shop", uid=uid or f"uid-{name}", labels=labels, **meta),
        spec=PodSpec(node_name=node, containers=(PodContainer(ports=(PodPort(name="http", container_port=80),)),)),
        status=PodStatus(phase=phase, pod_ips=tuple(PodIP(ip=one) for one in ip.split(",") if one)),
    )


class Told:
    """Whoever is told, and what he knows."""

    def __init__(self) -> None:
        self.pods = Pods("pods", "node-1")
        self.known: dict[str, Endpoint] = {}

    def take(self, pod: Pod, *, gone: bool = False) -> int:
        return self.follow(self.pods.take(pod, gone=gone))

    def hear(self, endpoint: Endpoint, *, gone: bool = False) -> int:
        return self.follow(self.pods.hear(endpoint, gone=gone))

    def follow(self, steps: list[Step]) -> int:
        for endpoint, over in steps:
            if over:
                del self.known[endpoint.name]
            else:
                self.known[endpoint.name] = endpoint
            held = [one for each in self.known.values() for one in each.spec.addresses]
            assert len(held) == len(set(held)), "an address with two, if only for a moment"
        return len(steps)

    @property
    def holders(self) -> dict[str, str]:
        return {one.partition("/")[0]: each.display for each in self.known.values() for one in each.spec.addresses}


def test_a_pod_is_an_endpoint_with_its_labels_ports_and_node() -> None:
    made = peer(pod(ip="10.0.0.1,fd00::1"), "pods")
    assert made is not None
    assert (made.name, made.metadata.namespace, made.display) == ("uid-web:eth0", "shop", "web")
    assert made.spec.addresses == (Interface("10.0.0.1/32"), Interface("fd00::1/128"))
    assert made.spec.named_ports == {"http": "80/tcp"}
    assert (made.spec.node, made.spec.network, made.metadata.labels) == ("node-2", "pods", {"app": "web"})


def test_what_has_no_address_of_its_own_is_no_endpoint() -> None:
    host = pod()
    host = replace(host, spec=replace(host.spec, host_network=True))
    for one in (host, pod(ip=""), pod(phase="Succeeded"), pod(phase="Failed"), pod(ip="nonsense")):
        assert peer(one, "pods") is None


def test_of_ports_the_first_of_a_name_counts_and_sidecars_do() -> None:
    first, second = PodPort(name="http", container_port=80), PodPort(name="http", container_port=81, protocol="UDP")
    dns = PodPort(name="dns", container_port=53, protocol="UDP")
    spec = PodSpec(
        containers=(PodContainer(ports=(first, PodPort(container_port=9))), PodContainer(ports=(second,))),
        init_containers=(
            PodContainer(ports=(dns,), restart_policy="Always"),
            PodContainer(ports=(PodPort(name="init", container_port=1),)),
        ),
    )
    assert replace(pod(), spec=spec).named_ports == {"http": "80/tcp", "dns": "53/udp"}


def test_what_changes_nothing_is_not_told() -> None:
    told = Told()
    assert told.take(pod()) == 1
    assert told.take(pod(resource_version="7")) == 0
    assert told.take(pod(app="db")) == 1
    assert told.take(pod(app="db"), gone=True) == 1
    assert told.take(pod(app="db"), gone=True) == 0


def test_pods_of_this_node_and_of_none_are_left_out() -> None:
    told = Told()
    assert told.take(pod(node="node-1")) == 0
    assert told.take(pod(node="")) == 0


def test_a_completed_pod_frees_its_address() -> None:
    told = Told()
    told.take(pod("job"))
    told.take(pod("job", phase="Succeeded"))
    assert told.holders == {}
    told.take(pod("web"))
    assert told.holders == {"10.0.0.1": "web"}
    told.take(pod("job", phase="Succeeded"), gone=True)
    assert told.holders == {"10.0.0.1": "web"}


def test_an_address_that_is_used_again_is_never_the_old_pods() -> None:
    told = Told()
    told.take(pod("old"))
    told.take(pod("old", deletion_timestamp="2026-01-01T00:00:00Z"))
    assert told.holders == {"10.0.0.1": "old"}
    told.take(pod("new"))
    assert told.holders == {"10.0.0.1": "new"}
    told.take(pod("old", deletion_timestamp="2026-01-01T00:00:00Z", app="late"))
    assert told.holders == {"10.0.0.1": "new"}
    told.take(pod("old"), gone=True)
    assert told.holders == {"10.0.0.1": "new"}


def test_in_a_listing_the_one_that_stays_counts_whatever_the_order() -> None:
    leaving, staying = pod("old", deletion_timestamp="2026-01-01T00:00:00Z"), pod("new")
    for order in ((leaving, staying), (staying, leaving)):
        told = Told()
        for one in order:
            told.take(one)
        assert told.holders == {"10.0.0.1": "new"}


def test_one_of_two_addresses_may_be_another_pods() -> None:
    told = Told()
    told.take(pod("both", "10.0.0.1,fd00::1"))
    told.take(pod("new", "fd00::1"))
    assert told.holders == {"10.0.0.1": "both", "fd00::1": "new"}
    told.take(pod("new", "fd00::1"), gone=True)
    assert told.holders == {"10.0.0.1": "both", "fd00::1": "both"}


def word(one: Pod, at: str = "10.0.0.1") -> Endpoint:
    """What the node of a pod says of it, whose object says nothing of addresses yet."""
    said = peer(replace(one, status=PodStatus(pod_ips=(PodIP(ip=at),))), "pods")
    assert said is not None
    meta = Meta(
        name=f"sandbox-{one.name}:eth0@{one.spec.node_name}",
        namespace="shop",
        labels={**one.metadata.labels, UID: one.metadata.uid},
    )
    return replace(said, metadata=meta)


def test_its_node_says_whose_an_address_is_before_its_object_does() -> None:
    told, new = Told(), pod("new", "", app="db")
    told.take(pod("old"))
    told.take(new)
    assert told.holders == {"10.0.0.1": "old"}
    told.hear(word(new))
    (known,) = told.known.values()
    assert (known.display, known.metadata.labels["app"]) == ("new", "db")
    told.take(pod("old", app="late"))
    assert told.holders == {"10.0.0.1": "new"}
    told.take(pod("new", app="db"))
    told.hear(word(new), gone=True)
    assert told.holders == {"10.0.0.1": "new"}, "its object says so by now"
    assert told.pods.claimed(Interface("10.0.0.1/32"), "uid-new")
    told.take(pod("old"), gone=True)
    assert not told.pods.claimed(Interface("10.0.0.1/32"), "uid-new")


def test_a_word_of_a_pod_that_is_no_more_counts_for_nothing() -> None:
    told, new = Told(), pod("new", "")
    told.hear(word(new))
    assert told.holders == {}, "nobody knows of such a pod yet"
    told.take(new)
    assert told.holders == {"10.0.0.1": "new"}
    told.take(pod("new", "", phase="Failed"))
    assert told.holders == {}
    told.take(new)
    told.take(pod("old"))
    assert told.holders == {"10.0.0.1": "new"}
    told.take(new, gone=True)
    assert told.holders == {"10.0.0.1": "old"}


def test_of_two_that_were_there_before_nobody_has_the_address() -> None:
    told = Told()
    told.pods.listing = True
    told.take(pod("one"))
    told.take(pod("two", "10.0.0.1,fd00::1"))
    told.pods.listing = False
    assert told.holders == {"fd00::1": "two"}
    told.take(pod("three"))
    assert told.holders == {"10.0.0.1": "three", "fd00::1": "two"}
    told.take(pod("three"), gone=True)
    told.take(pod("one"), gone=True)
    assert told.holders == {"10.0.0.1": "two", "fd00::1": "two"}


STEPS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(["", "10.0.0.1", "10.0.0.2", "10.0.0.1,fd00::1", "fd00::1"]),
        st.sampled_from(["Pending", "Running", "Succeeded"]),
        st.sampled_from(["", "2026-01-01T00:00:00Z"]),
        st.sampled_from(["web", "db"]),
        st.booleans(),
    ),
    max_size=30,
)


@given(STEPS)
def test_whatever_comes_each_address_is_that_of_one_who_claims_it(steps: list[tuple[str, str, str, str, str, bool]]) -> None:
    told, pods = Told(), dict[str, Pod]()
    for name, ip, phase, leaving, app, gone in steps:
        one = pod(name, ip, phase=phase, deletion_timestamp=leaving, app=app)
        told.take(one, gone=gone)
        if gone:
            pods.pop(name, None)
        else:
            pods[name] = one
        claims: dict[str, set[str]] = {}
        for each in pods.values():
            for address in each.addresses:
                claims.setdefault(address.partition("/")[0], set()).add(each.name)
        assert told.holders.keys() == claims.keys()
        for address, holder in told.holders.items():
            staying = {who for who in claims[address] if not pods[who].metadata.deletion_timestamp}
            assert holder in (staying or claims[address])
        for each in told.known.values():
            assert each.metadata.labels == pods[each.display].metadata.labels
        assert sorted(one.name for one in told.pods.all) == sorted(told.known)
