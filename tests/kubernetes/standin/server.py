"""Server: paths, verbs and query parameters of the Kubernetes API, over HTTP and HTTPS.

It runs in a thread with an event loop of its own; ``call`` does something in that loop, so that a test may look at it and
change it while it serves.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import msgspec
import yaml
from aiohttp import web

from .faults import Fault, Faults
from .gate import Gate
from .history import Change, History, Kept, Key, Tree
from .inside import serve_exec
from .objects import Objects, Refused
from .resources import OWN, Resource, defined
from .watching import Selector, serve_watch

T = TypeVar("T")

_BODY = 3 << 20
_JSON = {"Content-Type": "application/json"}
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_STATUS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


class Target(NamedTuple):
    """What a path is about. ``namespace``: as it stands in the path; ``part``: a subresource."""

    of: Resource
    namespace: str
    name: str
    part: str

    @property
    def key(self) -> Key:
        return (self.namespace, self.name)


class StandIn:
    """One API server. ``bookmark``: seconds between bookmarks of a watch."""

    def __init__(
        self,
        definitions: Iterable[Tree] = (),
        *,
        bookmark: float = 60.0,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.history = History()
        self.objects = Objects(self.history)
        self.gate, self.faults = Gate(), Faults()
        self.bookmark = bookmark
        self.host, self.port = host, port
        self.watches = 0
        self._tls = tls
        self._resources: dict[tuple[str, str, str], Resource] = {}
        for one in (*OWN, *defined(definitions)):
            self._resources[one.group, one.version, one.plural] = one
        self._streams: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._runner: web.AppRunner | None = None
        self._namespace("default")
        self._namespace("kube-system")

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    # ---- its life ----

    def start(self) -> None:
        """Serve; the port stays the same when it is started again."""
        ready = threading.Event()

        def run() -> None:
            loop = asyncio.new_event_loop()
            self._loop = loop
            loop.run_until_complete(self.listen())
            ready.set()
            loop.run_forever()
            loop.run_until_complete(_settled())
            loop.close()

        self._thread = threading.Thread(target=run, name="stand-in", daemon=True)
        self._thread.start()
        assert ready.wait(20)

    def stop(self) -> None:
        """End every connection and refuse new ones. What is kept is kept."""
        if self._loop is None:
            return
        asyncio.run_coroutine_threadsafe(self.leave(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        assert self._thread
        self._thread.join(20)
        self._loop = None

    def call(self, act: Callable[[], T]) -> T:
        """Do something in its loop."""
        if self._loop is None:
            return act()

        async def do() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(30)

    async def listen(self) -> None:
        app = web.Application(client_max_size=2 * _BODY)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        assert site._server
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def leave(self) -> None:
        """End every connection."""
        for one in tuple(self._streams):
            one.cancel()
        if self._streams:
            await asyncio.wait(self._streams, timeout=5)
        assert self._runner
        await self._runner.cleanup()

    # ---- what a test does to it ----

    def wipe(self) -> None:
        """Forget every object and every fault; revisions go on."""

        def act() -> None:
            for resource, table in list(self.history.tables.items()):
                for key in list(table):
                    self.history.drop(resource, key)
            self.faults.clear()
            self._namespace("default")
            self._namespace("kube-system")

        self.call(act)

    def fault(self, **what: Any) -> Fault:
        return self.call(lambda: self.faults.add(Fault(**what)))

    def mend(self) -> None:
        self.call(self.faults.clear)
        self.call(self.history.wake)

    def forget(self, keep: int) -> None:
        self.call(lambda: self.history.forget(keep))

    def put(self, plural: str, tree: Tree) -> Tree:
        """Create or replace an object behind everybody's back, unchecked, with its status."""
        of = next(one for one in self._resources.values() if one.plural == plural)

        def act() -> Tree:
            meta = tree["metadata"]
            key = (meta.setdefault("namespace", "default") if of.namespaced else "", meta["name"])
            before = self.history.get(of.name, key)
            was = before.tree["metadata"] if before else {}
            meta.setdefault("managedFields", [])
            meta.setdefault("uid", was.get("uid", f"uid-{self.history.revision + 1}"))
            meta.setdefault("creationTimestamp", was.get("creationTimestamp", "2024-01-01T00:00:00Z"))
            return self.history.put(of.name, key, {"apiVersion": of.api_version, "kind": of.kind, **tree}).tree

        return self.call(act)

    def remove(self, plural: str, key: Key) -> None:
        of = next(one for one in self._resources.values() if one.plural == plural)
        self.call(lambda: self.history.drop(of.name, key))

    def tree(self, plural: str, key: Key) -> Tree:
        """One object as it is kept."""
        of = next(one for one in self._resources.values() if one.plural == plural)
        return self.call(lambda: self.objects.get(of, key).tree)

    def unserve(self, plural: str) -> None:
        """Have no such kind."""
        self.call(lambda: [self._resources.pop(at) for at in list(self._resources) if at[2] == plural])

    def age(self, plural: str, version: str) -> None:
        """Have a kind in this version alone, as an API server of another age does."""

        def act() -> None:
            (at,) = (at for at in self._resources if at[2] == plural)
            self._resources[at[0], version, plural] = replace(self._resources.pop(at), version=version)

        self.call(act)

    def serve(self, definitions: Iterable[Tree]) -> None:
        """Have more kinds."""
        self.call(lambda: self._resources.update({(one.group, one.version, one.plural): one for one in defined(definitions)}))

    def _namespace(self, name: str) -> None:
        of = self._resources["", "v1", "namespaces"]
        meta = {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
        self.objects.create(of, "", {"metadata": meta, "spec": {"finalizers": ["kubernetes"]}}, "kube-apiserver")

    # ---- requests ----

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            with self.faults.counted():
                return await self._answer(request)
        except Refused as refused:
            headers = dict(_JSON)
            if after := refused.tree["details"].pop("retry", ""):
                headers["Retry-After"] = str(after)
            return web.Response(status=refused.code, body=msgspec.json.encode(refused.tree), headers=headers)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        user = self.gate.who(request)
        if request.path in {"/livez", "/readyz", "/healthz"}:
            return web.Response(text="ok")
        if request.path.rstrip("/") == "/version":
            return web.json_response({"major": "1", "minor": "34", "gitVersion": "v1.34.0"})
        if found := self._discovered(request.path):
            return web.json_response(found)
        if request.path.endswith("/exec"):
            return await self._exec(request, user)
        target = self._target(request.path)
        verb = self._verb(request, target)
        self.gate.let(user, verb, target.of, target.namespace, target.name, target.part)
        fault = await self.faults.meet(verb, target.of.plural)
        if fault.cut == "before":
            self._cut(request)
        if verb == "watch":
            return await self._watch(request, target)
        if verb == "list":
            return self._list(request, target)
        body = await request.read()
        if len(body) > _BODY:
            raise Refused(413, f"Request entity too large: limit is {_BODY}")
        done = self._act(verb, request, target, body)
        if fault.cut == "after":
            self._cut(request)
        return done

    async def _exec(self, request: web.Request, user: str) -> web.StreamResponse:
        """Run a program in a pod that has a place for it: an annotation names the directory of its agent.

        As the real one does, it refuses whoever would have the answer as JSON: what follows is a stream.
        """
        if request.headers.get("Accept", "*/*") != "*/*":
            raise Refused(406, "only the following media types are accepted: */*")
        target = self._target(request.path.removesuffix("/exec"))
        self.gate.let(user, "get", target.of, target.namespace, target.name, "exec")
        pod: Tree = msgspec.json.decode(self.objects.get(target.of, target.key).data)
        return await serve_exec(request, {"FAIRLEAD_RUN_DIR": pod["metadata"]["annotations"]["test/run-dir"]})

    def _cut(self, request: web.Request) -> None:
        if request.transport:
            request.transport.abort()
        raise ConnectionResetError

    def _discovered(self, path: str) -> Tree | None:
        """Which versions a group has, and which kinds a version; None if neither was asked for."""
        match path.strip("/").split("/"):
            case ["apis", group]:
                versions = {one.version for one in self._resources.values() if one.group == group}
                return (
                    {"kind": "APIGroup", "name": group, "versions": [{"version": one} for one in versions]}
                    if versions
                    else None
                )
            case ["apis", group, version]:
                kinds = [one for one in self._resources.values() if (one.group, one.version) == (group, version)]
                return {"kind": "APIResourceList", "resources": [{"name": one.plural} for one in kinds]} if kinds else None
        return None

    def _target(self, path: str) -> Target:
        parts = path.strip("/").split("/")
        if parts[:1] == ["api"] and len(parts) > 2:
            group, version, rest = "", parts[1], parts[2:]
        elif parts[:1] == ["apis"] and len(parts) > 3:
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            raise web.HTTPNotFound(text="404 page not found")
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and (group, version, rest[2]) in self._resources:
            namespace, rest = rest[1], rest[2:]
        of = self._resources.get((group, version, rest[0]))
        name, part = (*rest[1:], "", "")[:2]
        if of is None or len(rest) > 3 or (part and not (part == "status" and of.status)):
            raise web.HTTPNotFound(text="404 page not found")
        return Target(of, namespace, name, part)

    def _verb(self, request: web.Request, target: Target) -> str:
        if request.method == "GET":
            watching = request.query.get("watch", "").lower() in {"1", "t", "true"}
            return "get" if target.name else "watch" if watching else "list"
        if request.method == "DELETE":
            return "delete" if target.name else "deletecollection"
        verb = _VERBS.get(request.method, "")
        if not verb or (verb == "create") == bool(target.name):
            raise Refused(405, "the server does not allow this method on the requested resource")
        return verb

    def _act(self, verb: str, request: web.Request, target: Target, body: bytes) -> web.Response:
        of, key, part = target.of, target.key, target.part
        manager = request.query.get("fieldManager", request.headers.get("User-Agent", "unknown").partition("/")[0])
        if verb == "get":
            return self._object(self.objects.get(of, key))
        if verb in {"delete", "deletecollection"}:
            return self._delete(target, msgspec.json.decode(body) if body else {})
        if verb == "patch":
            return self._object(self._patch(request, target, body, manager))
        try:
            tree = msgspec.json.decode(body)
        except msgspec.DecodeError as problem:
            raise Refused(400, f"the object provided is unrecognized: {problem}") from None
        if not isinstance(tree, dict):
            raise Refused(400, "the object provided is unrecognized")
        if verb == "create":
            return self._object(self.objects.create(of, target.namespace, tree, manager), 201)
        return self._object(self.objects.update(of, key, tree, manager, part))

    def _patch(self, request: web.Request, target: Target, body: bytes, manager: str) -> Kept:
        of, key, part = target.of, target.key, target.part
        match request.content_type:
            case "application/merge-patch+json":
                return self.objects.patch(of, key, msgspec.json.decode(body), manager, part)
            case "application/apply-patch+yaml":
                if "fieldManager" not in request.query:
                    raise Refused(400, "fieldManager is required for apply patch")
                force = request.query.get("force") == "true"
                return self.objects.apply(of, key, yaml.safe_load(body), manager, force=force, part=part)
        raise Refused(415, f"the body of the request was in an unknown format: {request.content_type}")

    def _delete(self, target: Target, options: Tree) -> web.Response:
        if target.name:
            gone = self.objects.delete(target.of, target.key, options)
            details = {
                "name": target.name,
                "group": target.of.group,
                "kind": target.of.plural,
                "uid": gone.tree["metadata"]["uid"],
            }
            return web.Response(body=msgspec.json.encode({**_STATUS, "details": details}), headers=_JSON)
        for key in list(self.history.tables.get(target.of.name, {})):
            if target.namespace in {"", key[0]}:
                self.objects.delete(target.of, key, {})
        return web.Response(body=msgspec.json.encode(_STATUS), headers=_JSON)

    def _object(self, kept: Kept, status: int = 200) -> web.Response:
        return web.Response(status=status, body=kept.data, headers=_JSON)

    def _list(self, request: web.Request, target: Target) -> web.Response:
        query, of = request.query, target.of
        limit = int(query.get("limit", 0))
        version = query.get("resourceVersion", "")
        if version.isdigit() and int(version) > self.history.revision:
            raise Refused(504, f"Too large resource version: {version}, current: {self.history.revision}", "Timeout")
        start: Key | None = None
        at = None
        if token := query.get("continue"):
            try:
                at, *rest = json.loads(base64.urlsafe_b64decode(token))
                start = (rest[0], rest[1])
            except ValueError:
                raise Refused(400, "continue key is not valid") from None
        found = self.history.snapshot(of.name, at)
        if found is None:
            raise Refused(410, "The provided continue parameter is too old to display a consistent list result.", "Expired")
        revision, everything = found
        selector = Selector.of(query)
        chosen = (one for one in everything if target.namespace in {"", one[0][0]} and selector.fits(one[1]))
        page: list[tuple[Key, Kept]] = []
        more = ""
        for key, kept in chosen:
            if start is not None and key <= start:
                continue
            if limit and len(page) == limit:
                more = base64.urlsafe_b64encode(json.dumps([revision, *page[-1][0]]).encode()).decode()
                break
            page.append((key, kept))
        meta = {"resourceVersion": str(revision), **({"continue": more} if more else {})}
        head = {"kind": f"{of.kind}List", "apiVersion": of.api_version, "metadata": meta}
        body = msgspec.json.encode(head)[:-1] + b',"items":[' + b",".join([kept.data for _, kept in page]) + b"]}"
        return web.Response(body=body, headers=_JSON)

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task
        self._streams.add(task)
        self.watches += 1
        try:
            return await serve_watch(self, request, target.of, target.namespace)
        finally:
            self.watches -= 1
            self._streams.discard(task)

    def changes(self, of: Resource, since: int) -> list[Change]:
        """What happened to a kind since a revision; 410 if that is forgotten."""
        if since < self.history.floor:
            raise Refused(410, f"too old resource version: {since} ({self.history.floor})", "Expired")
        return [change for change in self.history.after(since) if change.resource == of.name]


async def _settled() -> None:
    """Let connections that were ended come to their end."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for one in left:
        one.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for _ in range(10):
        await asyncio.sleep(0.005)
