"""The compiled client against a real HTTP server on a real unix socket, and against none at all."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from fake_door import FakeDoor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.cni import install, verbs

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
PATIENCE = 20
"""Seconds after which a call that ought to end counts as hanging. The client's own default deadline is longer."""

Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(scope="session")
def bin_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec
    assert spec.loader
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    folder = tmp_path_factory.mktemp("bin")
    build.compile_client(program=folder / "fairlead")
    shutil.copy(folder / "fairlead", folder / "fairlead-ipam")
    return folder


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short path, as a socket needs one."""
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path / "state"))
    folder = Path(f"/tmp/fairlead-test-{os.getpid()}")  # noqa: S108
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


class Client:
    """Executes the plugin as a runtime would."""

    def __init__(self, bin_dir: Path, run_dir: Path, state_dir: Path) -> None:
        self.bin_dir = bin_dir
        self.base = {"FAIRLEAD_RUN_DIR": str(run_dir), "FAIRLEAD_STATE_DIR": str(state_dir), "PATH": "/usr/bin:/bin"}
        self.pending = state_dir / "pending-del"

    async def call(self, command: str, stdin: bytes | None, *, name: str = "fairlead", **more: str) -> tuple[int, dict]:
        status, out = await self.raw(command, stdin, name=name, **more)
        return status, json.loads(out) if out else {}

    async def raw(self, command: str, stdin: bytes | None, *, name: str = "fairlead", **more: str) -> tuple[int, bytes]:
        environment = {
            **self.base,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "/run/netns/c1",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.bin_dir),
            **more,
        }
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            self.bin_dir / name, env=environment, stdin=pipe, stdout=pipe, stderr=pipe
        )
        assert process.stdin
        assert process.stdout
        try:
            async with asyncio.timeout(PATIENCE):
                if stdin is None:
                    out = await process.stdout.read()
                    await process.wait()
                else:
                    out, errors = await process.communicate(stdin)
                    assert not errors
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            process.stdin.close()
        assert process.returncode in {0, 1}
        return process.returncode, out

    def remembered(self) -> list[Path]:
        return sorted(self.pending.iterdir()) if self.pending.is_dir() else []


@pytest.fixture
def client(bin_dir: Path, run_dir: Path, tmp_path: Path) -> Client:
    return Client(bin_dir, run_dir, tmp_path / "state")


@contextlib.asynccontextmanager
async def agent(client: Client, serve: Serve) -> AsyncIterator[None]:
    application = web.Application(client_max_size=2 * MIB)
    application.router.add_post("/cni", serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, Path(client.base["FAIRLEAD_RUN_DIR"], "agent.sock")).start()
    try:
        yield
    finally:
        await runner.cleanup()


def cni(door: FakeDoor) -> Serve:
    async def serve(request: web.Request) -> web.Response:
        status, body = await verbs.answer(door, request.headers, await request.read())
        return web.Response(status=status, body=body, content_type="application/json")

    return serve


@contextlib.asynccontextmanager
async def bytes_server(client: Client, answer: bytes, *, close: bool) -> AsyncIterator[None]:
    """A server that answers with ``answer`` whatever it is asked, then closes the connection or keeps it open."""
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        if not close:
            await over.wait()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_unix_server(serve, Path(client.base["FAIRLEAD_RUN_DIR"], "agent.sock"))
    try:
        yield
    finally:
        over.set()
        server.close()
        await server.wait_closed()


def conf(version: str = "1.0.0", **more: object) -> bytes:
    return json.dumps({"prevResult": None, "cniVersion": version, "name": "mynet", "type": "fairlead", **more}).encode()


def run(main: Coroutine[object, object, None]) -> None:
    asyncio.run(main)


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
    assert len(written) == 3
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
