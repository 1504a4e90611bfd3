"""What a store relies on of an API server, asked of the one that stands in and, where there is one, of the real one."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.server import NAMESPACE, Server, Tree, real, standing_in

APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
NETWORKS = "/apis/fairlead.dev/v1/networks"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"


# Once, not with every test: that there is no real one is said in test_rbac and test_manifests.
WHICH = ["stand-in", *(["real"] if os.environ.get("KUBEBUILDER_ASSETS") else [])]


@pytest.fixture(scope="module", params=WHICH)
def one(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if request.param == "stand-in":
        with standing_in(bookmark=1.0) as server:
            yield server
        return
    with real(tmp_path_factory.mktemp("real"), Path(os.environ["KUBEBUILDER_ASSETS"])) as server:
        yield server


@pytest.fixture
def api(one: Server) -> Server:
    one.wipe()
    return one


def network(name: str = "blue", **more: Any) -> Tree:
    meta = {"name": name, **more.pop("meta", {})}
    return {"apiVersion": "fairlead.dev/v1", "kind": "Network", "metadata": meta, "spec": more.pop("spec", {}), **more}


def refused(api: Server, *words: Any) -> tuple[int, Tree]:
    """The status and what it says."""
    with pytest.raises(urllib.error.HTTPError) as error:
        api.call(*words)
    said: Tree = json.loads(error.value.__notes__[0])
    return error.value.code, said


def lines(api: Server, path: str, count: int) -> list[Tree]:
    """The first lines of a watch."""
    request = urllib.request.Request(  # noqa: S310  # loopback
        api.url + path, headers={"Authorization": f"Bearer {api.token}"} if api.token else {}
    )
    context = ssl.create_default_context(cadata=api.ca.decode()) if api.ca else None
    with urllib.request.urlopen(request, timeout=90, context=context) as answer:  # noqa: S310
        return [json.loads(answer.readline()) for _ in range(count)]


# -- one object


def test_what_is_created_has_a_uid_a_time_a_revision_and_a_manager(api: Server) -> None:
    made = api.call("POST", f"{NETWORKS}?fieldManager=me", network())
    meta = made["metadata"]
    assert len(meta["uid"]) == 36
    assert meta["creationTimestamp"].endswith("Z")
    assert meta["resourceVersion"].isdigit()
    assert meta["generation"] == 1
    assert [(entry["manager"], entry["operation"]) for entry in meta["managedFields"]] == [("me", "Update")]
    assert meta["managedFields"][0]["time"].endswith("Z")
    assert api.call("GET", f"{NETWORKS}/blue") == made


def test_what_is_there_is_not_created_again(api: Server) -> None:
    api.call("POST", NETWORKS, network())
    code, said = refused(api, "POST", NETWORKS, network())
    assert (code, said["reason"], said["details"]["name"]) == (409, "AlreadyExists", "blue")


def test_what_is_not_there_is_not_found_by_its_name(api: Server) -> None:
    for method, body in (("GET", None), ("DELETE", None), ("PUT", network(meta={"resourceVersion": "1"}))):
        code, said = refused(api, method, f"{NETWORKS}/blue", body)
        assert (code, said["reason"], said["details"]["name"]) == (404, "NotFound", "blue")


def test_a_kind_that_is_not_served_is_not_found_without_one(api: Server) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        api.call("GET", "/apis/fairlead.dev/v1/wishes")
    assert error.value.code == 404
    assert '"name"' not in error.value.__notes__[0]


def test_a_replacement_must_be_of_what_is_there(api: Server) -> None:
    made = api.call("POST", NETWORKS, network())
    assert refused(api, "PUT", f"{NETWORKS}/blue", network(spec={"internal": True}))[0] == 422
    stale = network(meta={"resourceVersion": made["metadata"]["resourceVersion"]}, spec={"internal": True})
    second = api.call("PUT", f"{NETWORKS}/blue", stale)
    assert int(second["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    assert second["metadata"]["generation"] == 2
    assert second["metadata"]["uid"] == made["metadata"]["uid"]
    code, said = refused(api, "PUT", f"{NETWORKS}/blue", stale)
    assert (code, said["reason"]) == (409, "Conflict")
    other = {"resourceVersion": second["metadata"]["resourceVersion"], "uid": "11111111-0000-4000-8000-000000000000"}
    assert refused(api, "PUT", f"{NETWORKS}/blue", network(meta=other))[0] == 409


def test_a_replacement_that_changes_nothing_takes_no_revision(api: Server) -> None:
    made = api.call("POST", NETWORKS, network(spec={"internal": True}))
    again = network(meta={"resourceVersion": made["metadata"]["resourceVersion"]}, spec={"internal": True})
    assert api.call("PUT", f"{NETWORKS}/blue", again)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_a_deletion_may_name_what_it_means(api: Server) -> None:
    made = api.call("POST", NETWORKS, network())["metadata"]
    for wrong in ({"resourceVersion": "1"}, {"uid": "11111111-0000-4000-8000-000000000000"}):
        assert refused(api, "DELETE", f"{NETWORKS}/blue", {"preconditions": wrong})[0] == 409
    right = {"preconditions": {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}}
    said = api.call("DELETE", f"{NETWORKS}/blue", right)
    assert (said["kind"], said["status"], said["details"]["uid"]) == ("Status", "Success", made["uid"])


def test_a_finalizer_keeps_an_object(api: Server) -> None:
    api.call("POST", NETWORKS, network(meta={"finalizers": ["example.com/a"]}))
    api.call("DELETE", f"{NETWORKS}/blue")
    there = api.call("GET", f"{NETWORKS}/blue")
    assert "deletionTimestamp" in there["metadata"]
    api.call("PATCH", f"{NETWORKS}/blue", {"metadata": {"finalizers": None}}, MERGE)
    assert refused(api, "GET", f"{NETWORKS}/blue")[0] == 404


# -- what is in it


def test_what_the_schema_does_not_know_is_dropped_and_what_is_wrong_is_refused(api: Server) -> None:
    made = api.call("POST", NETWORKS, network(spec={"internal": True, "colour": "blue"}))
    assert made["spec"] == {"internal": True}
    for spec in ({"driver": "pigeon"}, {"mtu": "large"}, {"subnets": [{}]}, {"subnets": "all"}):
        code, said = refused(api, "POST", NETWORKS, network("wrong", spec=spec))
        assert (code, said["reason"]) == (422, "Invalid")
        assert said["details"]["causes"][0]["field"].startswith("spec")


@pytest.mark.parametrize(
    "meta",
    [
        {"name": "UPPER"},
        {"name": "a:b"},
        {"name": "x" * 254},
        {"labels": {"a b": "c"}},
        {"labels": {"a": "b c"}},
        {"annotations": {"a b": ""}},
        {"annotations": {"a": "x" * (257 << 10)}},
    ],
)
def test_metadata_that_kubernetes_does_not_take(api: Server, meta: Tree) -> None:
    code, said = refused(api, "POST", NETWORKS, network(meta=meta))
    assert (code, said["reason"]) == (422, "Invalid")
    assert said["details"]["causes"][0]["field"].startswith("metadata")


def test_a_status_is_written_by_itself(api: Server) -> None:
    api.call("POST", NETWORKS, network(status={"conditions": []}))
    made = api.call("GET", f"{NETWORKS}/blue")
    assert "status" not in made
    condition = {"type": "A", "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    body = {**made, "spec": {"internal": True}, "status": {"conditions": [condition]}}
    told = api.call("PUT", f"{NETWORKS}/blue/status", body)
    assert (told["spec"], told["status"]["conditions"]) == ({}, [condition])
    again = {**told, "spec": {"internal": True}, "status": {}}
    assert api.call("PUT", f"{NETWORKS}/blue", again)["status"]["conditions"] == [condition]


# -- server-side apply


def config(meta: Tree, **more: Any) -> Tree:
    return {"apiVersion": "fairlead.dev/v1", "kind": "Network", "metadata": {"name": "blue", **meta}, **more}


def test_each_manager_has_his_own_fields(api: Server) -> None:
    made = api.call("POST", f"{NETWORKS}?fieldManager=person", network(meta={"annotations": {"a.dev/x": "1"}}))
    path = f"{NETWORKS}/blue?fieldManager=me&force=true"
    told = api.call("PATCH", path, config({"annotations": {"b.dev/y": "1", "b.dev/z": "1"}}), APPLY)
    assert told["metadata"]["annotations"] == {"a.dev/x": "1", "b.dev/y": "1", "b.dev/z": "1"}
    same = api.call("PATCH", path, config({"annotations": {"b.dev/y": "1", "b.dev/z": "1"}}), APPLY)
    assert same["metadata"]["resourceVersion"] == told["metadata"]["resourceVersion"]
    less = api.call("PATCH", path, config({"annotations": {"b.dev/y": "2"}}), APPLY)
    assert less["metadata"]["annotations"] == {"a.dev/x": "1", "b.dev/y": "2"}
    assert less["metadata"]["uid"] == made["metadata"]["uid"]


def test_what_is_anothers_is_taken_by_force_alone(api: Server) -> None:
    api.call("POST", f"{NETWORKS}?fieldManager=person", network(meta={"annotations": {"a.dev/x": "1"}}))
    wanted = config({"annotations": {"a.dev/x": "2"}})
    code, said = refused(api, "PATCH", f"{NETWORKS}/blue?fieldManager=me", wanted, APPLY)
    assert (code, said["reason"]) == (409, "Conflict")
    told = api.call("PATCH", f"{NETWORKS}/blue?fieldManager=me&force=true", wanted, APPLY)
    assert told["metadata"]["annotations"] == {"a.dev/x": "2"}


def test_what_must_exist_is_not_made_by_applying(api: Server) -> None:
    body = config({"uid": "11111111-0000-4000-8000-000000000000", "annotations": {"a.dev/x": "2"}})
    code, _ = refused(api, "PATCH", f"{NETWORKS}/blue?fieldManager=me&force=true", body, APPLY)
    assert code in {404, 409}
    assert refused(api, "GET", f"{NETWORKS}/blue")[0] == 404


def test_conditions_are_merged_by_their_type(api: Server) -> None:
    api.call("POST", NETWORKS, network())

    def condition(kind: str, status: str) -> Tree:
        return {"type": kind, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}

    for manager, kind in (("one", "A"), ("other", "B"), ("one", "A")):
        path = f"{NETWORKS}/blue/status?fieldManager={manager}&force=true"
        told = api.call("PATCH", path, config({}, status={"conditions": [condition(kind, "True")]}), APPLY)
    assert {one["type"] for one in told["status"]["conditions"]} == {"A", "B"}
    assert refused(api, "PATCH", f"{NETWORKS}/red/status?fieldManager=me", config({"name": "red"}, status={}), APPLY)[0] == 404


# -- listing


def test_pages_are_of_one_moment(api: Server) -> None:
    for at in range(7):
        api.call("POST", NETWORKS, network(f"n{at}"))
    first = api.call("GET", f"{NETWORKS}?limit=3")
    assert [one["metadata"]["name"] for one in first["items"]] == ["n0", "n1", "n2"]
    api.call("POST", NETWORKS, network("n3a"))
    api.call("DELETE", f"{NETWORKS}/n6")
    names, more = [], first["metadata"]["continue"]
    while more:
        page = api.call("GET", f"{NETWORKS}?limit=3&continue={more}")
        names += [one["metadata"]["name"] for one in page["items"]]
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        more = page["metadata"].get("continue")
    assert names == ["n3", "n4", "n5", "n6"]


def test_a_selection_by_label(api: Server) -> None:
    for name, labels in (("a", {"x": "1"}), ("b", {"x": ""}), ("c", {})):
        api.call("POST", NETWORKS, network(name, meta={"labels": labels}))
    for selector, names in (("x", "ab"), ("x=1", "a"), ("x!=1", "bc")):
        found = api.call("GET", f"{NETWORKS}?labelSelector={selector}")["items"]
        assert "".join(one["metadata"]["name"] for one in found) == names
    found = api.call("GET", f"{NETWORKS}?fieldSelector=metadata.name=b")["items"]
    assert [one["metadata"]["name"] for one in found] == ["b"]


# -- watching


def test_a_watch_tells_what_came_after(api: Server) -> None:
    since = api.call("GET", NETWORKS)["metadata"]["resourceVersion"]
    api.call("POST", NETWORKS, network())
    api.call("PATCH", f"{NETWORKS}/blue", {"spec": {"internal": True}}, MERGE)
    api.call("DELETE", f"{NETWORKS}/blue")
    told = lines(api, f"{NETWORKS}?watch=true&resourceVersion={since}", 3)
    assert [one["type"] for one in told] == ["ADDED", "MODIFIED", "DELETED"]
    revisions = [int(one["object"]["metadata"]["resourceVersion"]) for one in told]
    assert revisions == sorted(set(revisions))
    assert told[2]["object"]["spec"] == {"internal": True}
    after = revisions[1]
    assert lines(api, f"{NETWORKS}?watch=true&resourceVersion={after}", 1)[0]["type"] == "DELETED"


def test_a_watch_by_label_tells_who_comes_and_goes(api: Server) -> None:
    since = api.call("GET", LEASES)["metadata"]["resourceVersion"]
    lease = {"metadata": {"name": "a"}, "spec": {"holderIdentity": "x"}}
    api.call("POST", LEASES, lease)
    api.call("PATCH", f"{LEASES}/a", {"metadata": {"labels": {"mine": ""}}}, MERGE)
    api.call("PATCH", f"{LEASES}/a", {"spec": {"holderIdentity": "y"}}, MERGE)
    api.call("PATCH", f"{LEASES}/a", {"metadata": {"labels": None}}, MERGE)
    told = lines(api, f"{LEASES}?watch=true&resourceVersion={since}&labelSelector=mine", 3)
    assert [one["type"] for one in told] == ["ADDED", "MODIFIED", "DELETED"]


@pytest.mark.deadline(150)
def test_bookmarks_come_while_nothing_happens(api: Server) -> None:
    """About every minute where etcd tells the API server how far it is, and shortly before a watch is to end."""
    since = api.call("GET", NETWORKS)["metadata"]["resourceVersion"]
    path = f"{NETWORKS}?watch=true&resourceVersion={since}&allowWatchBookmarks=true&timeoutSeconds=85"
    (told,) = lines(api, path, 1)
    assert told["type"] == "BOOKMARK"
    assert int(told["object"]["metadata"]["resourceVersion"]) >= int(since)


def test_what_is_asked_of_a_namespace_that_is_not_there(api: Server) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/nowhere/leases"
    assert api.call("GET", path)["items"] == []
    code, said = refused(api, "POST", path, {"metadata": {"name": "a"}, "spec": {}})
    assert (code, said["details"]["name"]) == (404, "nowhere")


def test_a_lease_of_nobody_known_is_refused(api: Server) -> None:
    token, api.token = api.token, "unknown"
    try:
        if api.standin:
            api.standin.gate.tokens = {"known": "admin"}
        assert refused(api, "GET", LEASES)[0] == 401
    finally:
        api.token = token
        if api.standin:
            api.standin.gate.tokens = {}
