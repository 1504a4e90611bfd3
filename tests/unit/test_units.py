"""The services of deploy/systemd, and the one that ``fairlead up`` writes: what all of them promise."""

from __future__ import annotations

from configparser import RawConfigParser
from pathlib import Path

import pytest

from fairlead.cli import daemon
from fairlead.cli.daemon import Start

UNITS = Path(__file__).parents[2] / "deploy/systemd"
NODE, CLUSTER = (UNITS / name for name in ("fairlead.service", "fairlead-kubernetes.service"))


def read(text: str) -> RawConfigParser:
    parsed = RawConfigParser(comment_prefixes="#", strict=True)
    parsed.optionxform = str  # type: ignore[assignment]  # as configparser's own documentation does
    parsed.read_string(text)
    return parsed


@pytest.fixture(params=[NODE.read_text(), CLUSTER.read_text(), daemon.unit(Start())], ids=["package", "cluster", "written"])
def unit(request: pytest.FixtureRequest) -> RawConfigParser:
    return read(request.param)


def test_it_is_started_again_for_as_long_as_it_takes(unit: RawConfigParser) -> None:
    """By default systemd gives up after five times in ten seconds: a node would be without its agent for good."""
    assert (unit["Service"]["Restart"], unit["Unit"]["StartLimitIntervalSec"]) == ("always", "0")


def test_stopping_it_stops_no_container(unit: RawConfigParser) -> None:
    assert unit["Service"]["KillMode"] == "process"
    assert not {"RuntimeDirectory", "StateDirectory", "PrivateMounts", "ProtectSystem", "PrivateTmp"} & set(unit["Service"])


def test_it_comes_before_what_starts_containers(unit: RawConfigParser) -> None:
    before = unit["Unit"]["Before"].split()
    assert {"containerd.service", "crio.service", "kubelet.service"} <= set(before)


def test_the_journal_has_it_under_its_own_name(unit: RawConfigParser) -> None:
    """And not under that of /usr/bin/env or of Python."""
    assert unit["Service"]["SyslogIdentifier"] == "fairlead"


def test_memory_is_taken_from_others_first(unit: RawConfigParser) -> None:
    assert unit["Service"]["OOMScoreAdjust"] == "-900"


def test_without_a_kubeconfig_it_is_an_error_to_start_it() -> None:
    assert read(CLUSTER.read_text())["Unit"]["AssertPathExists"] == "/etc/fairlead/kubeconfig"
    assert "ConditionPathExists" not in CLUSTER.read_text(), "that is passed over in silence"
