"""What a pod's object adds to an ADD."""

from __future__ import annotations

import json

import pytest

from fairlead.api.schema import Attach
from fairlead.cni import pod as cni
from fairlead.cni.translate import CONFIG_LABEL
from fairlead.model.address import ContainerID, Interface, InterfaceName, Mac, Name, Prefix
from fairlead.model.endpoint import Bandwidth, Endpoint, EndpointSpec, PublishedPort, Sandbox
from fairlead.model.errors import Invalid
from fairlead.model.meta import Meta
from fairlead.model.network import Driver, Network, NetworkSpec, Subnet
from fairlead.model.pod import UID_LABEL, Pod, PodContainer, PodPort, PodSpec

ASKED = Attach(
    container=ContainerID("c1"),
    path="/run/netns/c1",
    network=Name("default"),
    interface=InterfaceName("eth0"),
    labels={CONFIG_LABEL: "fairlead", "given": "by-args"},
    owner="cni",
)
SUBNETS = tuple(Subnet(cidr=Prefix(cidr)) for cidr in ("10.1.0.0/16", "10.2.0.0/16"))
NETWORK = Network(metadata=Meta(name="default"), spec=NetworkSpec(driver=Driver.VXLAN, subnets=SUBNETS))


def pod(**annotations: str) -> Pod:
    asked = {key.replace("__", "/").replace("_", "-"): text for key, text in annotations.items()}
    ports = (PodPort(name="http", container_port=80, host_port=8080), PodPort(container_port=53, protocol="UDP"))
    return Pod(
        metadata=Meta(name="web", namespace="shop", uid="u1", labels={"app": "web"}, annotations=asked),
        spec=PodSpec(node_name="n1", containers=(PodContainer(ports=ports),)),
    )


def test_labels_are_the_objects_alone_and_ports_are_taken() -> None:
    made = cni.dressed(ASKED, pod(), NETWORK)
    assert made.labels == {"app": "web", CONFIG_LABEL: "fairlead", UID_LABEL: "u1"}
    assert (made.namespace, made.display, made.named_ports) == ("shop", "web", {"http": "80/tcp"})
    assert made.ports == (PublishedPort(host_port=8080, container_port=80),)


@pytest.mark.parametrize(
    ("text", "rate"), [("10M", 10_000_000), ("1.5G", 1_500_000_000), ("512Ki", 524_288), ("1e6", 1_000_000), ("100", 100)]
)
def test_bandwidth_is_a_quantity(text: str, rate: int) -> None:
    made = cni.dressed(ASKED, pod(**{"kubernetes.io/ingress-bandwidth": text}), NETWORK)
    assert made.bandwidth == Bandwidth(ingress_rate=rate)


def test_wishes_are_taken() -> None:
    wishes = {"fairlead.dev/addresses": "10.1.0.9,fd00::9", "fairlead.dev/mac": "02:00:00:00:00:09"}
    made = cni.dressed(ASKED, pod(**wishes), NETWORK)
    assert (made.addresses, made.mac) == (("10.1.0.9", "fd00::9"), "02:00:00:00:00:09")
    assert cni.dressed(ASKED, pod(**{"fairlead.dev/pool": "10.2.0.0/16"}), NETWORK).ranges == (SUBNETS[1],)
    assert cni.network(pod(**{"v1.multus-cni.io/default-network": "kube-system/blue"})) == "blue"


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("fairlead.dev/addresses", "10.1.0.9,10.1.0.8", "at most one address a family"),
        ("fairlead.dev/addresses", "somewhere", "somewhere"),
        ("fairlead.dev/mac", "no", "no"),
        ("fairlead.dev/pool", "10.9.0.0/16", "no subnet of network default; there are: 10.1.0.0/16, 10.2.0.0/16"),
        ("kubernetes.io/egress-bandwidth", "fast", "is no quantity"),
        ("kubernetes.io/egress-bandwidth", "1", "below the kernel's smallest"),
    ],
)
def test_what_is_wrong_names_the_annotation(key: str, text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as raised:
        cni.dressed(ASKED, pod(**{key: text}), NETWORK)
    assert raised.value.field == f"metadata.annotations[{key}]"


def test_further_networks_in_both_notations() -> None:
    def asked(text: str) -> list[tuple[str, str]]:
        return [(one.name, one.interface) for one in cni.beside(pod(**{cni.NETWORKS: text}))]

    assert asked("blue, ns/green@side") == [("blue", "net1"), ("green", "side")]
    assert asked('[{"name": "blue"}, {"name": "green", "interface": "side"}]') == [("blue", "net1"), ("green", "side")]
    assert asked("") == []
    first = cni.dressed(ASKED, pod(), NETWORK)
    (chosen,) = cni.beside(pod(**{cni.NETWORKS: '[{"name": "blue", "ips": ["10.7.0.3"], "mac": "02:00:00:00:00:01"}]'}))
    made = cni.further(first, chosen)
    assert (made.network, made.interface, made.addresses, made.mac) == ("blue", "net1", ("10.7.0.3",), "02:00:00:00:00:01")
    assert (made.ports, made.gateway, made.labels[cni.BESIDE_LABEL]) == ((), False, "eth0")


@pytest.mark.parametrize("text", ["a/b/c", "[", '[{"name": "a", "bandwidth": {"x": 1}}]', "a@x,b@x", ",".join("a" * 17)])
def test_further_networks_that_make_no_sense(text: str) -> None:
    with pytest.raises(Invalid, match="networks"):
        cni.beside(pod(**{cni.NETWORKS: text}))


def test_what_it_was_given_is_told_as_the_standard_says() -> None:
    asking = pod(**{"k8s.v1.cni.cncf.io/networks": "kube-system/blue@side"})
    side, first = (
        Endpoint(
            metadata=Meta(name=f"c1:{interface}", namespace="shop", labels=labels),
            spec=EndpointSpec(
                container=ContainerID("c1"),
                interface=InterfaceName(interface),
                network=Name(network),
                sandbox=Sandbox(path="x"),
                mac=Mac(mac),
                addresses=tuple(map(Interface, addresses)),
            ),
        )
        for interface, network, mac, addresses, labels in (
            ("side", "blue", "02:00:00:00:00:02", ("10.3.0.2/32",), {cni.BESIDE_LABEL: "eth0"}),
            ("eth0", "default", "02:00:00:00:00:01", ("10.1.0.2/32", "fd00::2/128"), {}),
        )
    )
    assert json.loads(cni.status(asking, [side, first])) == [
        {
            "name": "default",
            "interface": "eth0",
            "ips": ["10.1.0.2", "fd00::2"],
            "mac": "02:00:00:00:00:01",
            "default": True,
            "dns": {},
        },
        {
            "name": "kube-system/blue",
            "interface": "side",
            "ips": ["10.3.0.2"],
            "mac": "02:00:00:00:00:02",
            "default": False,
            "dns": {},
        },
    ]
