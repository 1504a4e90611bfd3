"""docs/docker.md, docs/podman.md and docs/containerd.md do what they say."""

from __future__ import annotations

import pytest

from fairlead.docker import options
from tests.runtimes import containerd, docker, podman
from tests.runtimes.containerd import Containerd
from tests.runtimes.docker import Docker
from tests.runtimes.host import Host
from tests.runtimes.pages import DOCS, blocks, follow, matches


@pytest.mark.needs(*docker.PROGRAMS, "ping")
def test_docker(host: Host) -> None:
    first, *rest = blocks("docker.md")
    follow(host, first)
    Docker(host).start()
    for block in rest:
        follow(host, block)


@pytest.mark.needs(*podman.PROGRAMS)
def test_podman(host: Host) -> None:
    host.write("/etc/containers/storage.conf", podman.STORAGE)  # one that works on any file system
    for block in blocks("podman.md"):
        follow(host, block)


@pytest.mark.needs(*containerd.PROGRAMS)
def test_containerd(host: Host) -> None:
    first, *rest = blocks("containerd.md")
    follow(host, first)
    Containerd(host).start()
    for block in rest:
        follow(host, block)


def test_docker_s_options_are_all_on_the_page() -> None:
    page = (DOCS / "docker.md").read_text()
    known = [*options._SPEC, *options._KEPT, options.NETWORK]
    assert [one for one in known if f"`{one}`" not in page] == []


@pytest.mark.parametrize(
    ("shown", "said", "same"),
    [
        ("a  b", "a b\n", True),
        ("a b", "a c\n", False),
        ("a ... c", "a b b c", True),
        ("a\n...", "a", True),
        ("a\n...\nd", "a\nb\nc\nd\n", True),
        ("a\n...\nd", "a\nb\nc\n", False),
        ("a", "a\nb", False),
    ],
)
def test_what_a_page_shows_is_compared(shown: str, said: str, same: bool) -> None:  # a column of the table
    assert matches(tuple(shown.split("\n")), said) is same
