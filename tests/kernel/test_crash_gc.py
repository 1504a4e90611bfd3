"""Collection of what a runtime no longer lists: it takes what is dead, and never what is alive, whatever list it is given."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.kernel.agents import Agent, address
from tests.kernel.test_cni import cni, conf
from tests.net import Containers, Namespace, Node
from tests.wait import eventually

USED = conf("1.1.0")


def gc(node: Node, *alive: Namespace, used: dict[str, Any] = USED) -> None:
    valid = [{"containerID": one.name, "ifname": "eth0"} for one in alive]
    assert cni(node, "GC", None, {**used, "cni.dev/valid-attachments": valid}) == (0, {})


def there(agent: Agent) -> set[str]:
    return {one.spec.container for one in agent.client.objects("endpoints")}  # type: ignore[attr-defined]


def graceful(agent: Agent, seconds: float) -> None:
    """The same agent, that spares what is not listed for so long."""
    agent.stop()
    agent.options = ("--gc-grace", str(seconds))
    agent.start()


def test_a_container_that_came_after_the_list_was_written_stays(agent: Agent, node: Node, containers: Containers) -> None:
    graceful(agent, 0)
    old, new = containers.new("old"), containers.new("new")
    assert cni(node, "ADD", old, USED)[0] == 0
    listed = (old,)  # the runtime makes its list; then a container starts; then it asks for the collection
    assert cni(node, "ADD", new, USED)[0] == 0
    gc(node, *listed)
    assert there(agent) == {old.name, new.name}
    gc(node, old, new)
    gc(node, *listed)
    assert there(agent) == {old.name, new.name}, "it was on the list between, so that the first time does not count"
    for one in (old, new):
        assert one.pings("10.208.0.1")


def test_what_two_lists_do_not_name_goes_and_its_address_is_free(agent: Agent, node: Node, containers: Containers) -> None:
    graceful(agent, 1)
    alive, forgotten = containers.new("alive"), containers.new("forgotten")
    for one in (alive, forgotten):
        assert cni(node, "ADD", one, USED)[0] == 0
    gc(node, alive)
    gc(node, alive)
    assert there(agent) == {alive.name, forgotten.name}, "its namespace exists, and the second list came at once"

    def gone() -> bool:
        gc(node, alive)
        return there(agent) == {alive.name}

    eventually(gone, what="missing for long enough")
    eventually(lambda: "eth0" not in forgotten.run("ip", "-br", "link"))
    eventually(lambda: {pool.network: pool.used for pool in agent.client.status().pools}["default"] == 1)
    assert alive.pings("10.208.0.1")


def test_what_is_dead_goes_at_once(agent: Agent, node: Node, containers: Containers) -> None:
    agent.stop()
    agent.options = ("--debounce", "60")  # nobody else notices
    agent.start()
    alive, dead = containers.new("alive"), containers.new("dead")
    for one in (alive, dead):
        assert cni(node, "ADD", one, USED)[0] == 0
    dead.remove()
    gc(node, alive)
    assert there(agent) == {alive.name}


def test_a_collection_speaks_for_its_own_configuration_alone(agent: Agent, node: Node, containers: Containers) -> None:
    graceful(agent, 0)
    mine, theirs, person = containers.new("mine"), containers.new("theirs"), containers.new("person")
    other = {**USED, "name": "other"}
    assert cni(node, "ADD", mine, USED)[0] == 0
    assert cni(node, "ADD", theirs, other)[0] == 0
    agent.attach(person)
    gc(node)
    gc(node, used={**other, "name": "third"})
    gc(node, theirs, used=other)
    assert there(agent) == {mine.name, theirs.name, person.name}
    gc(node)
    assert there(agent) == {theirs.name, person.name}


def test_collections_and_starts_at_once_never_take_a_live_container(agent: Agent, node: Node, containers: Containers) -> None:
    """Every list is empty, as old as can be; containers come, are asked for again, go and come back meanwhile."""
    several = [containers.new(f"c{at}") for at in range(4)]

    def live(one: Namespace) -> list[str]:
        given = []
        for _ in range(6):
            status, result = cni(node, "ADD", one, USED)
            assert status == 0, result
            given.append(result["ips"][0]["address"])
            eventually(lambda: one.pings("10.208.0.1"), deadline=3)
            assert cni(node, "ADD", one, USED)[1]["ips"][0]["address"] == given[-1]
            assert cni(node, "DEL", one, USED)[0] == 0
        assert cni(node, "ADD", one, USED)[0] == 0
        return given

    with ThreadPoolExecutor(len(several)) as pool:
        running = [pool.submit(live, one) for one in several]
        while not all(one.done() for one in running):
            gc(node)
        for one in running:
            one.result()
    gc(node)
    assert there(agent) == {one.name for one in several}
    held = [address_of(agent, one) for one in several]
    assert len(set(held)) == len(held)
    for one in several:
        assert one.pings("10.208.0.1")
    assert not agent.drift()


def address_of(agent: Agent, one: Namespace) -> str:
    """What a repeated attach says: the same as before."""
    return address(agent.attach(one))
