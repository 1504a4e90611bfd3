from pathlib import Path

import pytest

from fairlead.kernel import netns, sysctl
from fairlead.kernel.errors import Gone, KernelError
from tests.kernel.room import Room, run

FORWARDING = pytest.mark.parametrize("key", ["net.ipv4.conf.all.forwarding", "net.ipv6.conf.all.forwarding"])


@FORWARDING
def test_write_and_read_in_this_namespace_alone(room: Room, key: str) -> None:
    _, other = room.child()
    assert sysctl.read(key) == "0"
    sysctl.write(key, 1)
    assert sysctl.read(key) == "1"
    assert Path("/proc/sys/" + key.replace(".", "/")).read_text() == "1\n"
    with netns.inside(other):
        assert sysctl.read(key) == "0"


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("name", ["br0", "eth0.100", "a.b.c"])
@pytest.mark.usefixtures("room")
def test_an_interface_name_may_hold_dots(family: int, name: str) -> None:
    run("ip", "link", "add", name, "type", "veth", "peer", "name", "other")
    sysctl.write(f"net.ipv{family}.conf.{name}.forwarding", "1")
    assert Path(f"/proc/sys/net/ipv{family}/conf/{name}/forwarding").read_text() == "1\n"


@pytest.mark.parametrize(
    "key",
    ["net.ipv4.conf.none.forwarding", "net.nothing", "", "net..ipv4", "net/ipv4/ip_forward", "net.ipv4.../../../../etc/passwd"],
)
@pytest.mark.usefixtures("room")
def test_a_key_that_there_is_not(key: str) -> None:
    with pytest.raises(Gone):
        sysctl.read(key)
    with pytest.raises(Gone):
        sysctl.write(key, 1)


@pytest.mark.usefixtures("room")
def test_a_value_that_the_kernel_refuses() -> None:
    with pytest.raises(KernelError, match=r"set net.ipv4.ip_forward to much: Invalid argument"):
        sysctl.write("net.ipv4.ip_forward", "much")
