"""What is in deploy/kubernetes: current, whole, and such as an API server takes."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import types
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from fairlead.agent.config import settings
from fairlead.agent.main import _parser
from fairlead.model.meta import kind
from tests.kubernetes.server import definitions, real
from tests.kubernetes.standin.resources import defined
from tests.kubernetes.standin.schema import NotStructural, Schema
from tests.tree import ROOT
from tests.unit.test_cli_docs import read

FOLDER = ROOT / "deploy/kubernetes"
FILES = sorted(path for path in FOLDER.glob("**/*.yaml") if path.name != "kustomization.yaml")


def script(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documents(path: Path = FOLDER / "fairlead.yaml") -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def one(kind: str) -> dict[str, Any]:
    (found,) = [one for one in documents() if one["kind"] == kind]
    return found


# -- current


def test_the_definitions_are_those_of_the_model() -> None:
    crds = script("crds")
    assert crds.TARGET.read_text() == crds.text(), "run .venv/bin/python scripts/crds.py"
    assert {one["spec"]["names"]["kind"] for one in definitions()} == {kind(one) for one in crds.ours()}


def test_the_whole_file_is_the_base() -> None:
    manifests = script("manifests")
    assert manifests.TARGET.read_text() == manifests.text(), "run .venv/bin/python scripts/manifests.py"


def test_what_the_daemonset_starts_understands_its_words() -> None:
    """Commands with what the ConfigMap says put in, as kubelet does."""
    said = {**one("ConfigMap")["data"], "NODE_NAME": "n1"}
    spec = one("DaemonSet")["spec"]["template"]["spec"]
    (install,), (agent,) = spec["initContainers"], spec["containers"]

    def words(container: dict[str, Any]) -> list[str]:
        return [
            re.sub(r"\$\((\w+)\)", lambda name: said[name[1]], word) for word in (*container["command"], *container["args"])
        ]

    assert words(agent)[:3] == ["python3", "-m", "fairlead.agent"]
    given = vars(_parser().parse_args(words(agent)[3:]))
    del given["log_level"]
    assert settings(**given).kubernetes
    assert settings(**given).pod_subnets == ()
    program, *rest = words(install)
    assert program == "fairlead"
    read(rest)


def test_a_type_without_a_schema_is_named() -> None:
    crds = script("crds")
    with pytest.raises(TypeError, match="no structural schema"):
        crds._schema(crds.types.type_info(object))


# -- such as an API server takes


@pytest.mark.parametrize("version", ["1.30", "1.34", "1.37"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_manifest_fits_the_api(path: Path, version: str) -> None:
    for tree in documents(path):
        kubernetes_validate.validate(tree, version, strict=True)


def test_the_check_finds_what_is_wrong() -> None:
    for spoil in (
        lambda spec: spec.update(tolerate=[]),
        lambda spec: spec.pop("containers"),
        lambda spec: spec.update(hostNetwork="yes"),
    ):
        tree = one("DaemonSet")
        spoil(tree["spec"]["template"]["spec"])
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(tree, "1.34", strict=True)


def test_every_definition_is_structural() -> None:
    assert len(defined(definitions())) == len(definitions())
    for tree in definitions():
        (version,) = tree["spec"]["versions"]
        assert "status" in version["subresources"]
        assert [one["name"] for one in version["additionalPrinterColumns"]][-2:] == ["Accepted", "Age"]


@pytest.mark.parametrize("wrong", [{"properties": {}}, {"type": "object", "$ref": "#"}, {"type": "array"}])
def test_a_definition_that_is_not_structural_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(NotStructural):
        Schema({"type": "object", "properties": {"spec": wrong}})


@pytest.mark.needs("kubectl")
def test_kustomize_makes_the_same() -> None:
    assert list(rendered("base").values()) == documents()


@pytest.mark.needs("kubectl")
def test_k3s_has_other_places_and_nothing_else() -> None:
    base, k3s = rendered("base"), rendered("overlays/k3s")
    changed = [key for key in base if base[key] != k3s.get(key)]
    assert changed == [("DaemonSet", "fairlead")]
    before, after = (volumes(one[changed[0]]) for one in (base, k3s))
    assert {name for name in before if before[name] != after.get(name)} == {"cni-bin", "cni-conf"}
    assert after.keys() == before.keys()
    assert "/k3s/" in after["cni-conf"]["path"]


def rendered(name: str) -> dict[tuple[str, str], Any]:
    done = subprocess.run(["kubectl", "kustomize", FOLDER / name], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    trees = [one for one in yaml.safe_load_all(done.stdout) if one]
    order = [(one["kind"], one["metadata"]["name"]) for one in documents()]
    found = {(one["kind"], one["metadata"]["name"]): one for one in trees}
    return {key: found[key] for key in order}


def volumes(daemonset: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("hostPath") for one in daemonset["spec"]["template"]["spec"]["volumes"]}


def test_a_real_api_server_takes_them(tmp_path: Path, assets: Path) -> None:
    with real(tmp_path, assets) as server:
        for tree in documents():
            if tree["kind"] in {"CustomResourceDefinition", "Namespace"}:
                continue
            group = "/api/v1" if tree["apiVersion"] == "v1" else f"/apis/{tree['apiVersion']}"
            where = f"/namespaces/{space}" if (space := tree["metadata"].get("namespace")) else ""
            path = f"{group}{where}/{tree['kind'].lower()}s"
            server.call("POST", f"{path}?fieldValidation=Strict", tree)


# -- what they promise


def test_the_configuration_is_the_last_that_is_installed() -> None:
    spec = one("DaemonSet")["spec"]["template"]["spec"]
    (install,) = spec["initContainers"]
    assert install["command"][:3] == ["fairlead", "cni", "install"]  # which writes it last; see tests/unit/test_cni_install.py
    mounts = {one["name"] for one in install["volumeMounts"]}
    assert mounts == {"cni-bin", "cni-conf"}


def test_it_runs_on_every_node_before_anything_else_and_one_after_another() -> None:
    whole = one("DaemonSet")["spec"]
    spec = whole["template"]["spec"]
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["priorityClassName"] == "system-node-critical"
    assert spec["hostNetwork"]
    assert whole["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}
    (agent,) = spec["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= agent.keys()
    for name in ("netns", "docker-netns", "bpf"):
        (mount,) = [one for one in agent["volumeMounts"] if one["name"] == name]
        assert mount["mountPropagation"] == "HostToContainer"


def test_what_is_mounted_is_a_volume_and_every_variable_is_set() -> None:
    spec = one("DaemonSet")["spec"]["template"]["spec"]
    known = {one["name"] for one in spec["volumes"]}
    settings = {*one("ConfigMap")["data"], "NODE_NAME"}
    for container in (*spec["initContainers"], *spec["containers"]):
        assert {one["name"] for one in container["volumeMounts"]} <= known
        used = re.findall(r"\$\((\w+)\)", " ".join([*container["command"], *container.get("args", [])]))
        assert set(used) <= settings


def test_the_agent_takes_the_arguments_that_it_is_given() -> None:
    from fairlead.agent.main import _parser  # noqa: PLC0415  # it loads half of the agent

    spec = one("DaemonSet")["spec"]["template"]["spec"]
    (agent,) = spec["containers"]
    words = [*agent["command"], *agent["args"]]
    assert words[:3] == ["python3", "-m", "fairlead.agent"]
    given = {"NODE_NAME": "node-1", **one("ConfigMap")["data"]}
    parsed = _parser().parse_args([re.sub(r"\$\((\w+)\)", lambda found: given[found[1]], word) for word in words[3:]])
    assert (parsed.store, parsed.node, parsed.plane) == ("kubernetes://", "node-1", "auto")
