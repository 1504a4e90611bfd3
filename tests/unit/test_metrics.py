"""What Prometheus is told: it can read it, and the names are as it wants them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fairlead.agent.metrics import Metrics, flows, listening, rules
from fairlead.api.schema import FlowStatus, Pool, RuleHits, Status, Unread
from fairlead.kit.metrics import Family, Histogram, counter, exposition, gauge, histogram
from fairlead.model.errors import Invalid

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
STATUS = Status(
    version="1",
    pid=1,
    node="n",
    uptime=1.0,
    memory=5 << 20,
    plane="ebpf",
    ready=True,
    networks=2,
    endpoints=3,
    repairs=4,
    pools=(
        Pool(network="front", cidr="10.0.0.0/24", size=254, used=7),
        Pool(network="six", cidr="fd00::/64", size=2**63 - 1, used=0),
    ),
    unreadable=(Unread(plural="networkpolicies", name="shop/p", reason="why"),),
)


HITS = (
    RuleHits(policy="shop/p", direction="ingress", index=1, connections=4),
    RuleHits(policy="shop/idle", direction="ingress"),
    RuleHits(direction="egress", drops=3),
    RuleHits(direction="ingress", drops=2),
)


class Collector:
    """As much of one as metrics ask."""

    counted = {("forwarded", "tcp"): 5, ("dropped", "udp"): 2}

    def status(self) -> FlowStatus:
        return FlowStatus(dropped={"denied by policy": 9}, lost=1, missed=2, connections=3)


def told() -> list[Family]:
    metrics = Metrics()
    metrics.request("GET", "/v1/status", 200, 0.003)
    metrics.request("GET", "/v1/status", 404, 7.0)
    metrics.compared(2, 0.02)
    with metrics.programming():
        pass
    maps = {"rulings": (10, 100)}
    collector: Any = Collector()
    return [*metrics.families(STATUS, {"networkpolicies": 1}, maps), *flows(collector), *rules(HITS)]


def read(families: list[Family]) -> dict[str, Any]:
    return {one.name: one for one in text_string_to_metric_families(exposition(families))}


def values(families: list[Family]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for one in read(families).values() for s in one.samples}


def test_prometheus_reads_what_is_told() -> None:
    found = values(told())
    assert found["fairlead_build_info", (("plane", "ebpf"), ("version", "1"))] == 1
    assert found["fairlead_pool_used_addresses", (("network", "front"), ("pool", "10.0.0.0/24"))] == 7
    assert found["fairlead_policy_map_entries", (("map", "rulings"),)] == 10
    assert found["fairlead_flows_total", (("protocol", "tcp"), ("verdict", "forwarded"))] == 5
    assert found["fairlead_dropped_packets_total", (("reason", "denied by policy"),)] == 9
    assert found["fairlead_drift_total", ()] == 2
    assert found["fairlead_rule_connections_total", (("direction", "ingress"), ("policy", "shop/p"), ("rule", "1"))] == 4
    for direction, drops in (("egress", 3), ("ingress", 2)):
        labels = (("direction", direction), ("policy", "default deny"), ("rule", ""))
        assert found["fairlead_rule_dropped_packets_total", labels] == drops
    assert not [one for one in found if "idle" in str(one)], "thousands of rules that never decided are not told"
    assert found["fairlead_unreadable_objects", ()] == 1
    labels = (("method", "GET"), ("route", "/v1/status"), ("status", "404"))
    assert found["fairlead_api_request_duration_seconds_count", labels] == 1
    assert found["fairlead_api_request_duration_seconds_sum", labels] == 7
    assert found["fairlead_api_request_duration_seconds_bucket", (("le", "10"), *labels)] == 1
    assert found["fairlead_api_request_duration_seconds_bucket", (("le", "5"), *labels)] == 0
    assert found["fairlead_api_request_duration_seconds_bucket", (("le", "+Inf"), *labels)] == 1


def test_names_are_as_prometheus_wants_them() -> None:
    """https://prometheus.io/docs/practices/naming: a prefix, base units, _total for what only grows."""
    families = told()
    assert len({one.name for one in families}) == len(families)
    for one in families:
        assert re.fullmatch(r"(fairlead|process)_[a-z]+(_[a-z]+)*", one.name), one.name
        assert (one.kind == "counter") == one.name.endswith("_total"), one.name
        assert one.kind != "histogram" or one.name.endswith(("_seconds", "_bytes")), one.name
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent)(_|$)", one.name), one.name
        assert re.fullmatch(r"[A-Z].*\.", one.help), one.help
        for labels, _ in one.samples:
            assert all(re.fullmatch(r"[a-z_]+", key) and key != "le" for key in labels), one.name


def test_the_page_names_them_all() -> None:
    assert {one.name for one in told()} == set(re.findall(r"`((?:fairlead|process)_[a-z_]+)`", PAGE))


def test_what_is_odd_survives_the_way() -> None:
    odd = 'a "b"\\c\nd'
    (sample,) = read([gauge("x_bytes", "Help\nwith \\ that.", [({"name": odd}, 2**63)])])["x_bytes"].samples
    assert (sample.labels["name"], sample.value) == (odd, 2**63)
    assert exposition([counter("x_total", "X.", [({}, 0.25)])]).splitlines()[-1] == "x_total 0.25"


def test_a_histogram_counts_up_to_each_bound() -> None:
    times = Histogram((0.1, 1.0))
    for one in (0.05, 0.1, 0.5, 7.0):
        times.observe(one)
    assert [count for _, count in times.buckets] == [2, 3, 4]
    assert times.sum == pytest.approx(7.65)
    assert exposition([histogram("x_seconds", "X.", [({}, times)])]).count("_bucket") == 3


@pytest.mark.parametrize(
    "where", ["", "9345", ":9345", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000", "no.such.host.invalid:1"]
)
def test_where_it_cannot_listen(where: str) -> None:
    with pytest.raises(Invalid) as refused:
        listening(where)
    assert refused.value.field == "metrics"
