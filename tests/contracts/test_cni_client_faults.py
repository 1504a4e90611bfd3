"""The compiled client with an agent that is not well, and DELs that no agent took."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.cni import verbs
from tests.contracts.cni_client import MIB, Client, agent, bytes_server, cni, conf, run
from tests.contracts.fake_door import FakeDoor

# With an agent that is not well


def test_agent_hangs(client: Client) -> None:
    async def main() -> None:
        async with bytes_server(client, b"", close=False):
            for command, code in (("ADD", 11), ("STATUS", 50)):
                status, answer = await client.call(command, conf(), FAIRLEAD_CNI_TIMEOUT="0.2")
                assert (status, answer["code"]) == (1, code)
                assert "did not answer" in answer["msg"]
                assert "0.2 s" in answer["msg"]

    run(main())


def test_agent_does_not_even_accept(client: Client) -> None:
    path = client.base["FAIRLEAD_RUN_DIR"] + "/agent.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)

        async def main() -> None:
            status, answer = await client.call("ADD", conf(), FAIRLEAD_CNI_TIMEOUT="0.2")
            assert (status, answer["code"]) == (1, 11)
            assert "busy" in answer["msg"]

        run(main())


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        b"\x00" * 100,
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        GOOD[:-1],
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nsad",
        b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
        b"x" * (5 * MIB),
    ],
)
def test_agent_answers_rubbish(client: Client, answer: bytes, close: bool) -> None:
    async def main() -> None:
        async with bytes_server(client, answer, close=close):
            status, told = await client.call("ADD", conf(), FAIRLEAD_CNI_TIMEOUT="0.3" if not close else "10")
        assert (status, told["code"], told["cniVersion"]) == (1, 11, "1.0.0")
        assert "did not answer" in told["msg"]

    run(main())


def test_answer_in_pieces(client: Client) -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            for at in range(len(GOOD)):
                writer.write(GOOD[at : at + 1])
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_unix_server(serve, Path(client.base["FAIRLEAD_RUN_DIR"], "agent.sock")):
            assert await client.raw("ADD", conf()) == (0, b"{}")

    run(main())


# A DEL that the agent did not take


def test_delete_is_remembered_and_finished(client: Client) -> None:
    async def main() -> None:
        door = FakeDoor()
        async with agent(client, cni(door)):
            for container in ("c1", "c2"):
                await client.call("ADD", conf(), CNI_CONTAINERID=container)
        assert await client.raw("DEL", conf(), CNI_NETNS="") == (0, b"")
        (path,) = client.remembered()
        assert path.name.startswith("c1.eth0.")
        assert path.stat().st_mode & 0o777 == 0o600
        assert client.pending.stat().st_mode & 0o777 == 0o700
        assert await verbs.finish_pending(door, client.pending) == 1
        assert list(door.endpoints) == ["c2:eth0"]
        assert not client.remembered()

    run(main())


def test_delete_is_remembered_when_the_agent_hangs(client: Client) -> None:
    async def main() -> None:
        async with bytes_server(client, b"", close=False):
            assert await client.raw("DEL", conf(), FAIRLEAD_CNI_TIMEOUT="0.2") == (0, b"")
        async with bytes_server(client, GOOD[:20], close=True):
            assert await client.raw("DEL", b"rubbish") == (0, b"")
        assert len(client.remembered()) == 2
        assert await verbs.finish_pending(FakeDoor(), client.pending) == 2

    run(main())


def test_delete_that_the_agent_refuses_is_not_remembered(client: Client) -> None:
    async def main() -> None:
        async with agent(client, cni(FakeDoor())):
            status, answer = await client.call("DEL", conf(), CNI_CONTAINERID="-")
        assert (status, answer["code"]) == (1, 4)
        assert not client.remembered()

    run(main())


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"CNI_CONTAINERID": "../../etc/x"}, 4),
        ({"CNI_CONTAINERID": ".hidden"}, 4),
        ({"CNI_CONTAINERID": ""}, 4),
        ({"CNI_IFNAME": "a/b"}, 4),
        ({"CNI_IFNAME": "x" * 16}, 4),
        ({"FAIRLEAD_STATE_DIR": "/proc/none"}, 5),
        ({"FAIRLEAD_STATE_DIR": "/" + "x" * 5000}, 4),
    ],
)
def test_delete_that_cannot_be_remembered(client: Client, more: dict[str, str], code: int) -> None:
    async def main() -> None:
        status, answer = await client.call("DEL", conf(), **more)
        assert (status, answer["code"]) == (1, code)
        assert not client.remembered()

    run(main())


def test_long_container_ids_fit_a_file_name(client: Client) -> None:
    async def main() -> None:
        door = FakeDoor()
        long = "a" * 255
        async with agent(client, cni(door)):
            await client.call("ADD", conf(), CNI_CONTAINERID=long)
        assert await client.raw("DEL", conf(), CNI_CONTAINERID=long) == (0, b"")
        assert await verbs.finish_pending(door, client.pending) == 1
        assert not door.endpoints

    run(main())


def test_no_delete_falls_between_absent_and_listening(client: Client) -> None:
    """Clients that delete while the agent starts: each is served or remembered, and nothing is left after one look."""

    async def main() -> None:
        door = FakeDoor()
        async with agent(client, cni(door)):
            await asyncio.gather(*(client.call("ADD", conf(), CNI_CONTAINERID=f"c{number}") for number in range(60)))
        calls = [asyncio.create_task(client.raw("DEL", conf(), CNI_CONTAINERID=f"c{number}")) for number in range(60)]
        while sum(call.done() for call in calls) < 10:
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED, timeout=0.001)
        async with agent(client, cni(door)):
            await verbs.finish_pending(door, client.pending)
            assert {call.result() for call in (await asyncio.wait(calls))[0]} == {(0, b"")}
        assert not door.endpoints
        assert not client.remembered()

    run(main())


# Hostile input


ENVIRONMENT = st.dictionaries(
    st.sampled_from(
        ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH", "FAIRLEAD_CNI_TIMEOUT"]
    ),
    st.binary(max_size=60).map(lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stdin=st.binary(max_size=200), more=ENVIRONMENT)
def test_any_bytes_without_an_agent(client: Client, stdin: bytes, more: dict[str, str]) -> None:
    async def main() -> None:
        status, answer = await client.call(**{"command": "ADD", "stdin": stdin, **more})
        if status:
            assert set(answer) == {"cniVersion", "code", "msg", "details"}
            assert answer["code"] in {4, 5, 6, 11, 50}

    run(main())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stdin=st.binary(max_size=200), more=ENVIRONMENT)
def test_any_bytes_with_an_agent(client: Client, stdin: bytes, more: dict[str, str]) -> None:
    async def main() -> None:
        async with agent(client, cni(FakeDoor())):
            status, answer = await client.call(**{"command": "ADD", "stdin": stdin, **more})
        if status:
            assert {"cniVersion", "code", "msg"} <= set(answer)
            assert answer["code"] != 100

    run(main())
