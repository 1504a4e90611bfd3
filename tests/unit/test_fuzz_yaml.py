"""YAML that is more or less an object: what comes out is objects, or one ``Invalid`` with a message of bounded length."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import yaml
from hypothesis import strategies as st

from fairlead.model import codec
from fairlead.model.errors import Invalid
from fairlead.model.meta import Object
from tests.fuzz import SCALARS, TREES, explore, wrong_value

ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.0/8", "fd00::/64", "fe80::1%eth0", "1.2.3", "::ffff:1.2.3.4", "10.0.0.0/33"])
SUBNET = wrong_value(
    {
        "cidr": ADDRESSES,
        "gateway": ADDRESSES,
        "ranges": st.lists(wrong_value({"start": ADDRESSES, "end": ADDRESSES}), max_size=2),
        "exclude": st.lists(ADDRESSES, max_size=2),
    }
)
SPEC = wrong_value(
    {
        "driver": st.sampled_from(["bridge", "host", "none"]),
        "subnets": st.lists(SUBNET, max_size=3),
        "mtu": st.integers(),
        "bridge": st.sampled_from(["br0", "../x", "a\nb"]),
        "internal": st.booleans(),
        "dns": st.lists(ADDRESSES, max_size=2),
        "options": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
        "container": st.sampled_from(["c1", "../x"]),
        "interface": st.sampled_from(["eth0", "a/b"]),
        "network": st.sampled_from(["default", "A"]),
        "sandbox": wrong_value({"path": st.text(max_size=5), "cookie": st.integers()}),
        "addresses": st.lists(ADDRESSES, max_size=2),
    }
)
META = wrong_value(
    {"name": st.sampled_from(["blue", "../x", "a" * 64]), "labels": st.dictionaries(st.text(max_size=5), SCALARS)}
)
OBJECTS = wrong_value(
    {
        "apiVersion": st.just("fairlead.dev/v1"),
        "kind": st.sampled_from(["Network", "Endpoint", "List", "Pod"]),
        "metadata": META,
        "spec": SPEC,
        "items": st.lists(wrong_value({"kind": st.just("Network"), "metadata": META, "spec": SPEC}), max_size=3),
    }
)
PIECES = st.sampled_from(
    [
        *(
            "kind: Network\n",
            "metadata:\n  name: blue\n",
            "---\n",
            "...\n",
            "- ",
            "&a ",
            "*a",
            "!!python/object:os.system ",
            "<<: *a\n",
        ),
        *(
            "? ",
            ": ",
            "|\n",
            ">\n",
            "{",
            "}",
            "[",
            "]",
            "%YAML 1.1\n",
            "\t",
            "\0",
            "\ufeff",
            "'",
            '"',
            "1e999",
            "0x1f",
            "010",
            "no",
            "~",
        ),
    ]
)


def read(text: str) -> list[Object]:
    """What the text holds; nothing if it is refused."""
    objects: list[Object] = []
    refused(lambda: objects.extend(codec.from_yaml(text)))
    return objects


def refused(act: Callable[[], object]) -> None:
    """``act``, which may be refused, in words for people."""
    try:
        act()
    except Invalid as problem:
        said = str(problem)
    else:
        return
    assert 0 < len(said) < 3000
    for word in ("Traceback", "Expected `", "object at 0x"):
        assert word not in said, said


def test_any_text() -> None:
    def check(pieces: list[str]) -> None:
        read("".join(pieces))

    explore(check, 500, pieces=st.lists(PIECES | st.text(max_size=6), max_size=12))


def test_any_object() -> None:
    def check(trees: list[Any]) -> None:
        text = yaml.safe_dump_all([json.loads(json.dumps(tree, default=str)) for tree in trees], allow_unicode=True)
        objects = read(text)
        assert codec.from_yaml(codec.to_yaml(objects)) == objects

    explore(check, 300, trees=st.lists(OBJECTS | TREES, max_size=3))


def test_any_json_is_read_alike() -> None:
    """What a PUT to the agent goes through."""

    def check(tree: Any) -> None:
        refused(lambda: codec.from_item(codec.decode(json.dumps(tree), dict[str, Any])))

    explore(check, 300, tree=OBJECTS | TREES)
