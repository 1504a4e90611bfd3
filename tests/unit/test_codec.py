"""Objects as JSON and YAML: what is written is read back, and whatever is hostile ends in a short answer that says where."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import suppress
from textwrap import dedent
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model import codec, document
from fairlead.model.address import Address, ContainerID, InterfaceName, Mac, Name, Prefix
from fairlead.model.endpoint import (
    Bandwidth,
    Dns,
    Endpoint,
    EndpointSpec,
    Protocol,
    PublishedPort,
    Route,
    Sandbox,
)
from fairlead.model.errors import Invalid
from fairlead.model.meta import Meta, Object, kind
from fairlead.model.network import Driver, Network, NetworkSpec, Range, Subnet

KNOWN = ", ".join(kind(one) for one in codec.KINDS)

# Strings that other readers of YAML take for something else, and whatever a person may type.
ODD = (
    "",
    "no",
    "on",
    "null",
    "~",
    "1",
    "010",
    "0x1f",
    "1e3",
    ".inf",
    "10:20",
    "2026-01-01",
    "=",
    "<<",
    "- a",
    "&a",
    "a: b",
    " a ",
    "%x",
)
STRINGS = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
METAS = st.builds(
    Meta,
    name=NAMES,
    labels=st.dictionaries(NAMES, NAMES, max_size=3),
    annotations=st.dictionaries(STRINGS, STRINGS, max_size=3),
    uid=STRINGS,
    resource_version=STRINGS,
)
SUBNETS = [
    Subnet(cidr=Prefix("10.88.0.0/24"), gateway=Address("10.88.0.254"), exclude=("10.88.0.9", "10.88.0.16/28")),
    Subnet(cidr=Prefix("fd00:88::/64"), ranges=(Range(start=Address("fd00:88::10"), end=Address("fd00:88::ffff")),)),
    Subnet(cidr=Prefix("10.89.0.0/16")),
]
NETWORKS = st.builds(
    Network,
    metadata=METAS,
    spec=st.builds(
        NetworkSpec,
        subnets=st.lists(st.sampled_from(SUBNETS), unique=True, max_size=3).map(tuple),
        mtu=st.none() | st.integers(1280, 65535),
        bridge=st.none() | st.just(InterfaceName("br-1")),
        internal=st.booleans(),
        isolated=st.booleans(),
        inter_container=st.booleans(),
        masquerade=st.booleans(),
        anti_spoofing=st.booleans(),
        big_tcp=st.booleans(),
        dns=st.lists(st.ip_addresses().map(Address), max_size=2).map(tuple),
        options=st.dictionaries(STRINGS, STRINGS, max_size=3),
    )
    | st.sampled_from([NetworkSpec(driver=Driver.HOST), NetworkSpec(driver=Driver.NONE)]),
)
ENDPOINTS = st.builds(
    lambda meta, display, ports, bandwidth, mtu: Endpoint(
        metadata=meta,
        spec=EndpointSpec(
            container=ContainerID("c1"),
            interface=InterfaceName("eth0"),
            network=Name("default"),
            sandbox=Sandbox(path="/run/netns/c1", cookie=2**63),
            display=display,
            mac=Mac("02:00:00:00:00:01"),
            ports=tuple(ports),
            bandwidth=bandwidth,
            routes=(Route(dst="0.0.0.0/0", gw=Address("10.88.0.1")),),
            dns=Dns(nameservers=("10.88.0.1",)),
            mtu=mtu,
        ),
    ),
    METAS,
    STRINGS,
    st.lists(
        st.builds(
            PublishedPort,
            host_port=st.integers(1, 60000),
            container_port=st.integers(1, 60000),
            count=st.integers(1, 5000),
            protocol=st.sampled_from(Protocol),
            host_ip=st.none() | st.ip_addresses().filter(lambda ip: not ip.is_multicast).map(Address),
        ),
        max_size=2,
    ),
    st.none() | st.builds(Bandwidth, ingress_rate=st.integers(8, 2**40), ingress_burst=st.integers(0, 2**34)),
    st.integers(0, 65535),
)
OBJECTS = NETWORKS | ENDPOINTS


@given(st.lists(OBJECTS, max_size=3))
def test_yaml_is_read_back_as_it_was_written(objects: list[Object]) -> None:
    assert codec.from_yaml(codec.to_yaml(objects)) == objects


@given(OBJECTS)
def test_json_is_read_back_as_it_was_written(thing: Object) -> None:
    assert codec.decode(codec.encode(thing), type(thing)) == thing
    assert codec.from_item(codec.decode(codec.encode(thing), object)) == thing


@given(OBJECTS)
def test_any_other_reader_of_yaml_sees_the_same(thing: Object) -> None:
    assert yaml.safe_load(codec.to_yaml([thing])) == {"apiVersion": "fairlead.dev/v1", **codec.to_tree(thing)}


def test_what_a_person_reads() -> None:
    network = Network(metadata=Meta(name="blue"), spec=NetworkSpec(subnets=(SUBNETS[0],), mtu=1400))
    assert codec.to_yaml([network]).splitlines() == [
        "apiVersion: fairlead.dev/v1",
        "kind: Network",
        "metadata:",
        "  name: blue",
        "spec:",
        "  subnets:",
        "  - cidr: 10.88.0.0/24",
        "    gateway: 10.88.0.254",
        "    exclude:",
        "    - 10.88.0.9",
        "    - 10.88.0.16/28",
        "  mtu: 1400",
    ]


def test_a_stream_may_hold_several_documents_and_lists() -> None:
    text = dedent("""\
        # two documents, one of them a list, and an empty one
        {kind: Network, metadata: {name: a}}
        ---
        ---
        kind: List
        items:
        - {kind: Network, metadata: {name: b}}
        - {kind: Network, metadata: {name: c}}
    """)
    assert [one.name for one in codec.from_yaml(text)] == ["a", "b", "c"]
    assert codec.from_yaml("") == []
    assert codec.from_yaml("kind: List\nitems: []\n") == []


NETWORK = "kind: Network\nmetadata: {name: a}\n"


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        (NETWORK + "spec: {mtu: big}", "spec.mtu", "expected a whole number, not a string"),
        (NETWORK + "spec: {mtu: 1.5}", "spec.mtu", "expected a whole number, not a number with a fraction"),
        (NETWORK + "spec: {isolated: yes}", "spec.isolated", "expected true or false, not a string"),
        (NETWORK + "spec: {subnets: {}}", "spec.subnets", "expected a list, not a mapping"),
        (NETWORK + "spec: null", "spec", "expected a mapping, not null"),
        (NETWORK + "spec: {subnets: [{cidr: 5}]}", "spec.subnets[0].cidr", "expected a string, not a whole number"),
        (NETWORK + "spec: {dns: [{}]}", "spec.dns[0]", "expected a string, not a mapping"),
        (NETWORK + "spec: {options: {a: 1}}", "spec.options.a", "expected a string, not a whole number"),
        (
            "kind: NetworkPolicy\nmetadata: {name: x}\nspec: {podSelector: {matchLabels: {a: b, c: [d]}}}",
            "spec.podSelector.matchLabels.c",
            "expected a string, not a list",
        ),
        (NETWORK + "spec: {options: {1: a}}", "spec.options", "a key: expected a string, not a whole number"),
        (NETWORK + "spec: {subnets: [{cidr: 10.0.0.0/24, size: 1}]}", "spec.subnets[0].size",
         "there is no such field; there are cidr, gateway, ranges, exclude, blockSize, nodes, namespaces"),
        (NETWORK + "status: {}", "status", "there is no such field; there are metadata, apiVersion, spec"),
        (NETWORK + "spec: {driver: brigde}", "spec.driver", "'brigde' is not one of " + ", ".join(Driver)),
        (NETWORK + "spec: {subnets: [{}]}", "spec.subnets[0].cidr", "is required"),
        (NETWORK + "apiVersion: v1", "apiVersion", "'v1' is not one of fairlead.dev/v1"),
        ("kind: Network", "metadata", "is required"),
        ("kind: Network\nmetadata: {}", "metadata.name", "is required"),
        ("metadata: {name: a}", "kind", f"a kind is required; there are {KNOWN}"),
        ("kind: Bridge", "kind", f"'Bridge' is not a kind; there are {KNOWN}"),
        ("kind: [Network]", "kind", f"\"['Network']\" is not a kind; there are {KNOWN}"),
        ("5", "", "expected an object with apiVersion, kind, metadata and spec, not a whole number"),
        (NETWORK + "---\nkind: Network", "document 2.metadata", "is required"),
        ("kind: List\nitems: 5", "items", "expected a list of objects, not a whole number"),
        ("kind: List", "items", "expected a list of objects, not null"),
        ("kind: List\nitems:\n- {kind: Network, metadata: {name: a}}\n- {kind: X}", "items[1].kind",
         f"'X' is not a kind; there are {KNOWN}"),
        ("{}\n---\nkind: List\nitems: [7]", "document 1.kind", f"a kind is required; there are {KNOWN}"),
    ],
)  # fmt: skip
def test_yaml_is_refused_with_the_field_and_what_would_be_right(text: str, field: str, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        codec.from_yaml(text)
    assert (refused.value.field, refused.value.message) == (field, message)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "line 2, column 1: "),
        ("a: 'x", "unexpected end"),
        ("\tb: c", "line 1, column 1: "),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' is there twice"),
        ("a: &x 1\nb: *x", "line 2, column 4: aliases are not taken"),
        ("a: !!python/object/apply:os.system [true]", "line 1, column 4: tags such as"),
        ("a: !!binary aGVsbG8=", "tags such as"),
        ("!include x", "tags such as"),
        ("? {a: b}\n: c", "line 1, column 3: "),
        ("%YAML 9.9\n---\na", "incompatible"),
        ("\0", "unacceptable character"),
        ("a: \ud800", "surrogates not allowed"),
        ("[" * 100_000, "more than 50 levels deep"),
        ("- " * 100_000, "more than 50 levels deep"),
        ("{a: " * 100_000, "more than 50 levels deep"),
        ("x" * (document.MAX_CHARACTERS + 1), "at most 4194304"),
    ],
)
def test_hostile_yaml_is_refused_quickly_and_shortly(text: str, told: str) -> None:
    begun = time.process_time()
    with pytest.raises(Invalid) as refused:
        codec.from_yaml(text)
    assert told in refused.value.message
    assert len(refused.value.message) < 200
    assert time.process_time() - begun < 5  # a bound on growth, not a measure: these take milliseconds


def test_an_expanding_document_stays_small() -> None:
    layers = "".join(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9)}]\n" for at in range(1, 10))
    with pytest.raises(Invalid, match="aliases are not taken"):
        codec.from_yaml(f"a0: &a0 [lol]\n{layers}")


@given(st.text(max_size=60) | st.text("{}[]:-,&*!|>'\"#%@ \nab01", max_size=60))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    with suppress(Invalid):
        codec.from_yaml(text)


TREES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | STRINGS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "cidr", "subnets"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(TREES, st.sampled_from(["metadata", "spec"]), st.sampled_from(["Network", "Endpoint"]))
def test_no_tree_does_anything_but_fit_or_be_refused(tree: Any, at: str, kind: str) -> None:
    where = ""
    try:
        codec.from_item({"kind": kind, "metadata": {"name": "a"}, at: tree})
    except Invalid as refused:
        where = refused.field
    assert re.match(r"(metadata|spec)\b|$", where)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "not JSON: Input data was truncated"),
        (b"nope", "not JSON: invalid character (byte 4)"),
        (b"\xff", "not JSON: "),
        (b"{", "not JSON: "),
        (b"[" * 100_000, "expected a mapping, not a list"),
        (b'{"a":' * 100_000, "there is no such field"),
        (b'{"hostPort":80,"containerPort":"x"}', "expected a whole number, not a string"),
        (b'{"hostPort":1e400,"containerPort":80}', "out of range"),
    ],
)
def test_hostile_json_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        codec.decode(data, PublishedPort, field="ports[0]")
    assert refused.value.field.startswith("ports[0]")
    assert told in refused.value.message


def test_deep_json_of_no_certain_shape_is_refused() -> None:
    with pytest.raises(Invalid, match="not JSON"):
        codec.decode(b"[" * 100_000, object)


THREADS = """
import sys, threading, msgspec
from fairlead.model import codec

sys.setswitchinterval(1e-6)
for number in range(60):
    inner = msgspec.defstruct(f"Inner{number}", [(f"field{at}", int | None, None) for at in range(30)])
    outer = msgspec.defstruct("Outer", [("one", inner), ("many", list[inner])])
    together = threading.Barrier(4)

    def read(to, text):
        together.wait()
        codec.decode(text, to)

    wanted = [(inner, "{}"), (outer, '{"one": {}, "many": []}')] * 2
    threads = [threading.Thread(target=read, args=each) for each in wanted]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
"""


def test_threads_may_read_the_same_kinds_for_the_first_time_together() -> None:
    """The library would crash the process, so another one tries."""
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
