"""A container's own hosts and resolv.conf."""

from __future__ import annotations

from fairlead.cli.container import files
from fairlead.model.address import Address

STUB = "# systemd-resolved\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.com\n"
REAL = "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch example.com\n"


def test_hosts_name_loopback_and_the_container() -> None:
    lines = files.hosts([Address("10.88.0.5"), Address("fd00::5")], ["web.example", "web"]).splitlines()
    assert "127.0.0.1\tlocalhost" in lines
    assert any(line.startswith("::1\tlocalhost") for line in lines)
    assert lines[-2:] == ["10.88.0.5\tweb.example web", "fd00::5\tweb.example web"]


def test_a_name_that_is_the_host_name_is_written_once() -> None:
    assert files.hosts([Address("10.88.0.5")], ["web", "web"]).endswith("10.88.0.5\tweb\n")


def test_servers_that_were_given_are_all_there_is() -> None:
    assert files.resolv(["10.88.0.1", "fd00::1"], [REAL]) == "nameserver 10.88.0.1\nnameserver fd00::1\n"


def test_the_host_s_servers_but_not_those_on_loopback() -> None:
    text = files.resolv((), ["nameserver 127.0.0.1\nnameserver 192.0.2.53\nnameserver ::1\nsearch example.com\n"])
    assert "nameserver 192.0.2.53\n" in text
    assert "search example.com\n" in text
    assert "127.0.0.1" not in text
    assert "::1" not in text


def test_behind_systemd_resolved_its_own_servers_are_used() -> None:
    assert "nameserver 192.0.2.53" in files.resolv((), [STUB, REAL])


def test_no_server_that_can_be_reached_leaves_a_reason() -> None:
    for host in ([], [STUB], ["nameserver fe80::1%eth0\n"], ["nameserver\nnameserver nonsense\n"], ["nameserver 0.0.0.0"]):
        text = files.resolv((), host)
        assert all(line.startswith("#") for line in text.splitlines()), text
        assert "--dns" in text


def test_tabs_and_comments() -> None:
    assert files.reachable("; no\n# no\n\nnameserver\t127.0.0.53\n\tnameserver\t192.0.2.1\n") == ["nameserver\t192.0.2.1"]
