"""The annotation network-status: what it takes to write it, and that it takes no more."""

from __future__ import annotations

import json
import urllib.error
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from fairlead.model.address import ContainerID
from fairlead.model.errors import Forbidden, Missing, Problem
from fairlead.model.meta import Meta
from fairlead.model.pod import Pod
from fairlead.store.kubernetes.store import Kubernetes
from tests.contracts.stores import awaited
from tests.kubernetes.server import Real, StoodIn, real
from tests.kubernetes.test_rbac import ROLES, TOKEN, USER
from tests.tree import ROOT
from tests.wait import eventually

STATUS = "k8s.v1.cni.cncf.io/network-status"
ACCESS = [one for one in yaml.safe_load_all((ROOT / "deploy/kubernetes/network-status.yaml").read_text()) if one]
PLACES = {"v1": "/api/v1"}


def about(tree: dict[str, Any]) -> Pod:
    meta = tree["metadata"]
    return Pod(metadata=Meta(name=meta["name"], namespace=meta["namespace"], uid=ContainerID(meta["uid"])))


def another(tree: dict[str, Any]) -> Pod:
    """A pod that had the name before."""
    one = about(tree)
    return replace(one, metadata=replace(one.metadata, uid="00000000-0000-4000-8000-000000000000"))


def tree(name: str, node: str, **more: Any) -> dict[str, Any]:
    spec = {"nodeName": node, "containers": [{"name": "web", "image": "web"}]}
    return {"metadata": {"name": name, "namespace": "shop", "annotations": {"mine": "1"}, **more}, "spec": spec}


def test_it_takes_a_right_of_its_own(server: StoodIn, opens: Any) -> None:
    assert server.standin
    server.call("POST", "/api/v1/namespaces", {"metadata": {"name": "shop"}})
    made = server.call("POST", "/api/v1/namespaces/shop/pods", tree("web", "n1"))
    gate = server.standin.gate
    gate.tokens = {TOKEN: USER}

    @awaited
    async def run() -> None:
        async with opens(token=TOKEN) as store:
            gate.grant(USER, [one for one in ROLES if "rules" in one])
            with pytest.raises(Forbidden, match="pods/status"):
                await store.annotate(about(made), {STATUS: "[]"})
            gate.grant(USER, [one for one in (*ROLES, *ACCESS) if "rules" in one])
            await store.annotate(about(made), {STATUS: "[]"})
            with pytest.raises(Missing):
                await store.annotate(another(made), {STATUS: "[]"})

    run()
    server.token = ""
    gate.tokens = {}
    found = server.call("GET", "/api/v1/namespaces/shop/pods/web")["metadata"]
    assert found["annotations"] == {"mine": "1", STATUS: "[]"}


def test_with_a_real_api_server_nothing_else_can_be_written(tmp_path: Path, assets: Path) -> None:
    with real(tmp_path, assets) as server:
        prepare(server)
        mine, theirs = (
            server.call("POST", "/api/v1/namespaces/shop/pods", tree(f"on-{node}", node, labels={"app": "web"}))
            for node in ("n1", "n2")
        )
        token = agents_token(server, "n1")
        path = "/api/v1/namespaces/shop/pods/on-n1/status"

        def refused(change: dict[str, Any]) -> str:
            admin, server.token = server.token, token
            try:
                server.call("PATCH", path, change, "application/merge-patch+json")
            except urllib.error.HTTPError as error:
                return " ".join(error.__notes__)
            finally:
                server.token = admin
            return ""

        # It takes the API server a moment to know the policy, and until then RBAC alone speaks.
        tries = count()
        eventually(
            lambda: "no labels" in refused({"metadata": {"labels": {"app": f"vip{next(tries)}"}}}),
            deadline=30,
            what="the policy",
        )
        assert "no annotation" in refused({"metadata": {"annotations": {"fairlead.dev/addresses": "10.0.0.1"}}})
        assert "no annotation" in refused({"metadata": {"annotations": {"mine": None}}})
        assert "no status" in refused({"status": {"phase": "Succeeded"}})
        assert "no finalizers" in refused({"metadata": {"finalizers": ["fairlead.dev/never"]}})

        @awaited
        async def run() -> None:
            store = Kubernetes(server.access(patience=5.0, token=token))
            try:
                await store.annotate(about(mine), {STATUS: "[]"})
                await store.annotate(about(mine), {STATUS: "[{}]"})
                with pytest.raises(Problem, match="another node"):
                    await store.annotate(about(theirs), {STATUS: "[]"})
                with pytest.raises(Missing):
                    await store.annotate(another(mine), {STATUS: "[]"})
            finally:
                await store.close()

        run()
        found = server.call("GET", "/api/v1/namespaces/shop/pods/on-n1")["metadata"]
        assert found["annotations"] == {"mine": "1", STATUS: "[{}]"}
        assert STATUS not in json.dumps(server.call("GET", "/api/v1/namespaces/shop/pods/on-n2"))


def prepare(server: Real) -> None:
    for node in ("n1", "n2"):
        server.call("POST", "/api/v1/nodes", {"metadata": {"name": node}})
    server.call("POST", "/api/v1/namespaces", {"metadata": {"name": "shop"}})
    roles = [one for one in yaml.safe_load_all((ROOT / "deploy/kubernetes/base/rbac.yaml").read_text()) if one]
    for one in (*roles, *ACCESS):
        group = PLACES.get(one["apiVersion"], f"/apis/{one['apiVersion']}")
        where = f"/namespaces/{space}" if (space := one["metadata"].get("namespace")) else ""
        plural = f"{one['kind'].lower()}s".replace("policys", "policies")
        server.call("POST", f"{group}{where}/{plural}?fieldValidation=Strict", one)


def agents_token(server: Real, node: str) -> str:
    """The token that kubelet gives to the agent's pod of a node."""
    agent = {
        "metadata": {"name": f"agent-{node}", "namespace": "fairlead-system"},
        "spec": {
            "nodeName": node,
            "serviceAccountName": "fairlead-agent",
            "containers": [{"name": "agent", "image": "fairlead"}],
        },
    }
    made = server.call("POST", "/api/v1/namespaces/fairlead-system/pods", agent)["metadata"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": made["name"], "uid": made["uid"]}
    path = "/api/v1/namespaces/fairlead-system/serviceaccounts/fairlead-agent/token"
    wanted = {"spec": {"boundObjectRef": bound, "expirationSeconds": 600}}
    return str(server.call("POST", path, wanted)["status"]["token"])
