"""A reboot: the kernel has forgotten everything, the store nothing. What can live again is rebuilt, the rest is released."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from fairlead.cni.install import available
from fairlead.datapath.ebpf import programs
from fairlead.model.endpoint import Endpoint
from tests.kernel.agents import Agent, address
from tests.kernel.test_cni import cni, conf
from tests.net import Containers, Node, Outside
from tests.wait import eventually

RUNTIME = {
    "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
    "bandwidth": {"ingressRate": 80_000_000, "ingressBurst": 8_000_000, "egressRate": 80_000_000, "egressBurst": 8_000_000},
}
TINY = {"type": "fairlead-ipam", "ranges": [[{"subnet": "10.67.0.0/30"}]]}


def reboot(agent: Agent, node: Node, folder: Path) -> None:
    """What is left when the power was gone: /etc and /var, and nothing of the kernel or /run."""
    for link in node.json("ip", "-j", "-d", "link"):
        if link["ifname"] not in {"lo", "eth0"}:
            node.attempt("ip", "link", "delete", link["ifname"])
    node.run("nft", "flush", "ruleset")
    programs.remove(node.run_dir)
    shutil.rmtree(node.run_dir)
    other = folder / "boot_id"
    other.write_text("11111111-2222-3333-4444-555555555555\n")
    script = f'mount --bind {other} /proc/sys/kernel/random/boot_id && exec "$0" "$@"'
    agent.under = ("unshare", "-m", "--propagation", "slave", "sh", "-c", script)
    agent.start()


def test_everything_is_rebuilt_or_released(
    agent: Agent, node: Node, outside: Outside, containers: Containers, tmp_path: Path
) -> None:
    blue = agent.network("blue", "10.50.0.0/24", "fd50::/64", mtu=1400, interContainer=False)
    several = [containers.new(f"c{at}") for at in range(3)]
    used = conf("1.1.0", network="blue", runtimeConfig=RUNTIME)
    assert cni(node, "ADD", several[0], used)[0] == 0
    before = [address(agent.attach(one, "blue")) for one in several[1:]]
    agent.kill()
    assert cni(node, "DEL", several[2], used) == (0, {}), "remembered by the client"
    names = [one.name for one in several]
    for one in several:
        one.remove()
    reboot(agent, node, tmp_path)

    assert not agent.client.objects("endpoints")
    assert "endpoint default/c1 (" in agent.log, "of an earlier boot, by the name that people know"
    assert agent.client.network("blue") == blue
    assert all(pool.used == 0 for pool in agent.client.status().pools)
    eventually(lambda: not list((node.state_dir / "pending-del").iterdir()))
    assert not agent.drift()
    (link,) = node.json("ip", "-j", "link", "show", "fl-blue")
    assert link["mtu"] == 1400
    assert {one["ifname"] for one in node.json("ip", "-j", "link")} == {"lo", "eth0", "fairlead0", "fl-blue"}
    assert "8080" not in node.run("nft", "list", "ruleset")

    back = containers.new("back")
    words = {"CNI_CONTAINERID": names[0], "CNI_NETNS": str(back.path), "CNI_IFNAME": "eth0"}
    status, result = cni(node, "ADD", None, used, **words)
    assert status == 0, result
    assert result["ips"][0]["address"].partition("/")[0] not in before, "the addresses freed last come last"
    back.serve("tcp", 80)
    assert outside.connects(node.v4, 8080)
    (stored,) = agent.client.objects("endpoints")
    assert isinstance(stored, Endpoint)
    assert stored.spec.boot == "11111111-2222-3333-4444-555555555555"


def test_leases_of_our_ipam_are_released_and_those_of_host_local_kept(
    agent: Agent, node: Node, containers: Containers, tmp_path: Path
) -> None:
    """host-local's own never are: nobody can tell when they were given."""
    program = tmp_path / "fairlead-ipam"
    program.symlink_to(available())
    leases = node.state_dir / "leases"
    used = {"cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "ipam": {**TINY, "dataDir": str(leases)}}
    one, two = containers.new("one"), containers.new("two")
    status, result = cni(node, "ADD", one, used, plugin=program)
    assert status == 0, result
    status, said = cni(node, "ADD", two, used, plugin=program)
    assert (status, said["code"]) == (1, 102), "there is one address"
    agent.kill()
    reboot(agent, node, tmp_path)
    status, result = cni(node, "ADD", two, used, plugin=program)
    assert status == 0, result
    (held,) = leases.glob("lan/10.67*")
    assert held.read_bytes() == f"{two.name}\r\neth0".encode()

    held.unlink()
    held.write_text(f"{one.name}\r\neth0", newline="")
    assert cni(node, "ADD", two, used, plugin=program)[0] == 1
    assert json.dumps(cni(node, "STATUS", None, used, plugin=program)[1]).count("10.67.0")
