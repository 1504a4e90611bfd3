"""The compiled client with an agent that is well, and without one."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from aiohttp import web

from fairlead.cni import install
from tests.contracts.cni_client import MIB, Client, agent, cni, conf, run
from tests.contracts.fake_door import FakeDoor

# With an agent


def test_add_check_delete(client: Client) -> None:
    async def main() -> None:
        door = FakeDoor()
        async with agent(client, cni(door)):
            status, answer = await client.call("ADD", conf())
            assert status == 0
            assert answer["ips"][0]["address"] == "10.88.0.2/24"
            assert await client.raw("CHECK", conf(prevResult=answer)) == (0, b"")
            status, answer = await client.call("ADD", conf(mtu="x"))
            assert (status, answer["code"], answer["cniVersion"]) == (1, 7, "1.0.0")
            assert await client.raw("STATUS", conf("1.1.0")) == (0, b"")
            assert await client.raw("DEL", conf(), CNI_NETNS="") == (0, b"")
            assert not door.endpoints
            assert not client.remembered()

    run(main())


def test_request_is_the_environment_and_stdin(client: Client) -> None:
    async def main() -> None:
        seen: list[tuple[dict[str, str], bytes]] = []

        async def serve(request: web.Request) -> web.Response:
            seen.append(({k.lower(): v for k, v in request.headers.items()}, await request.read()))
            return web.Response(body=b"{}")

        async with agent(client, serve):
            body = b' {"cniVersion":"1.0.0"}\n\x00\xff'
            assert await client.raw("ADD", body, CNI_ARGS="A=b;C=\u00e9") == (0, b"{}")
            assert await client.raw("ADD", body, name="fairlead-ipam", CNI_NETNS_OVERRIDE="1") == (0, b"{}")
        headers, sent = seen[0]
        assert sent == body
        assert {k: v for k, v in headers.items() if k.startswith("x-")} == {
            "x-cni-plugin": "fairlead",
            "x-cni-command": "ADD",
            "x-cni-containerid": "c1",
            "x-cni-netns": "/run/netns/c1",
            "x-cni-ifname": "eth0",
            "x-cni-args": "A=b;C=\u00e9",
            "x-cni-path": str(client.bin_dir),
        }
        assert headers["connection"] == "close"
        assert (seen[1][0]["x-cni-plugin"], seen[1][0]["x-cni-netns-override"]) == ("fairlead-ipam", "1")

    run(main())


def test_many_at_the_same_time(client: Client) -> None:
    async def main() -> None:
        door = FakeDoor()
        async with agent(client, cni(door)):
            calls = [client.call("ADD", conf(), CNI_CONTAINERID=f"c{number}") for number in range(40)]
            answers = await asyncio.gather(*calls)
        assert [status for status, _ in answers] == [0] * 40
        assert len({answer["ips"][0]["address"] for _, answer in answers}) == 40

    run(main())


def test_a_whole_mebibyte_passes_and_comes_back(client: Client) -> None:
    async def main() -> None:
        async def echo(request: web.Request) -> web.Response:
            return web.Response(body=await request.read())

        async with agent(client, echo):
            body = b'{"a":"' + b"x" * (MIB - 8) + b'"}'
            assert len(body) == MIB
            assert await client.raw("ADD", body) == (0, body)
            status, answer = await client.call("ADD", body + b" ")
            assert (status, answer["code"]) == (1, 6)
            assert str(MIB) in answer["msg"]

    run(main())


# Values that would break out of a header


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CNI_CONTAINERID", "c1\r\nX-CNI-Command: DEL"),
        ("CNI_ARGS", "A=b\nContent-Length: 0"),
        ("CNI_NETNS", "/run\x01"),
        ("CNI_PATH", "\x7f"),
        ("CNI_COMMAND", "ADD\t"),
        ("CNI_ARGS", "x" * 8001),
    ],
)
def test_header_injection(client: Client, variable: str, value: str) -> None:
    async def main() -> None:
        door = FakeDoor()
        async with agent(client, cni(door)):
            status, answer = await client.call(**{"command": "ADD", "stdin": conf(), variable: value})
        assert (status, answer["code"], answer["cniVersion"]) == (1, 4, "1.0.0")
        assert variable in answer["msg"]
        assert not door.asked

    run(main())


def test_program_is_known_as_ours(bin_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_PROGRAM", bin_dir / "fairlead")
    written = install.install(tmp_path / "bin", tmp_path / "net.d")
    assert len(written) == 4
    with written[1].open("ab") as file:
        file.write(b"an older version")
    assert install.install(tmp_path / "bin", tmp_path / "net.d") == (written[1],)


# Without an agent


@pytest.mark.parametrize(("command", "code"), [("ADD", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50), ("NONSENSE", 11)])
@pytest.mark.parametrize("stale", [False, True])
def test_agent_is_absent(client: Client, command: str, code: int, stale: bool) -> None:
    """At once, though the deadline is the default of half a minute: no socket, or one that nobody listens on."""
    if stale:
        left = socket.socket(socket.AF_UNIX)
        left.bind(client.base["FAIRLEAD_RUN_DIR"] + "/agent.sock")
        left.close()

    async def main() -> None:
        status, answer = await client.call(command, conf("0.4.0"))
        assert status == 1
        assert (answer["cniVersion"], answer["code"]) == ("0.4.0", code)
        assert "the Fairlead agent is not running" in answer["msg"]
        assert "fairlead up" in answer["details"]

    run(main())


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (b"start it with `systemctl start fairlead-kubernetes`\n", "start it with `systemctl start fairlead-kubernetes`"),
        (b'a "\\\x01\xff\nmore', "a ????"),
        (b"x" * 9000, "x" * 200),
        (b"", "start it with `fairlead up`"),
    ],
)
def test_an_absent_agent_said_what_to_do(client: Client, left: bytes, told: str) -> None:
    state = Path(client.base["FAIRLEAD_STATE_DIR"])
    state.mkdir(exist_ok=True)
    (state / "remedy").write_bytes(left)

    async def main() -> None:
        assert (await client.call("ADD", conf()))[1]["details"] == told

    run(main())


def test_no_command(client: Client) -> None:
    async def main() -> None:
        status, answer = await client.call("", conf())
        assert (status, answer["code"]) == (1, 4)
        assert "CNI_COMMAND" in answer["msg"]

    run(main())


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        (b'{"cniVersion":"0.4.0"}', "0.4.0"),
        (b'{"prevResult":{"cniVersion":"0.3.1"},"cniVersion" :\n "1.0.0"}', "1.0.0"),
        (b'{"a":"\\"cniVersion\\":\\"0.4.0\\"","cniVersion":"0.3.1"}', "0.3.1"),
        (b'["cniVersion","0.4.0"]', "1.1.0"),
        (b'{"cniVersion":"9.9.9"}', "1.1.0"),
        (b'{"cniVersion":"1.0.0\\"}', "1.1.0"),
        (b'{"cniVersion":"1.0.0', "1.1.0"),
        (b'{"cniVersion"', "1.1.0"),
        (b'{"cniVersion":7}', "1.1.0"),
        (b'{"\\', "1.1.0"),
        (b"", "1.1.0"),
    ],
)
def test_version_needs_no_agent(client: Client, stdin: bytes, version: str) -> None:
    async def main() -> None:
        status, answer = await client.call("VERSION", stdin)
        assert (status, answer) == (0, {"cniVersion": version, "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]})

    run(main())


def test_stdin_that_is_never_closed(client: Client) -> None:
    async def main() -> None:
        status, answer = await client.call("ADD", None, FAIRLEAD_CNI_TIMEOUT="0.2")
        assert (status, answer["code"]) == (1, 5)
        assert "stdin" in answer["msg"]

    run(main())


@pytest.mark.parametrize("text", ["x" * 200, 'a"b\\c\n\x01\u00e9'])
def test_run_dir_that_cannot_be(client: Client, text: str) -> None:
    async def main() -> None:
        status, answer = await client.call("ADD", conf(), FAIRLEAD_RUN_DIR=f"/nonexistent/{text}")
        assert (status, answer["code"]) == (1, 11)

    run(main())
