"""Where the API is and as whom it is asked, from what kubectl reads."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from fairlead.model.errors import Invalid, Missing, Unsupported
from fairlead.store import url
from fairlead.store.kubernetes.access import Access, find, from_files, in_cluster
from fairlead.store.kubernetes.trust import Pem

SHOWN = "hunter2"
CONFIG = """
apiVersion: v1
kind: Config
current-context: prod
contexts:
  - {name: prod, context: {cluster: big, user: me, namespace: shop}}
  - {name: test, context: {cluster: small, user: robot}}
clusters:
  - {name: big, cluster: {server: "https://10.0.0.1:6443", certificate-authority: pki/ca.crt, tls-server-name: api.example}}
  - {name: small, cluster: {server: "https://[fd00::1]:6443", insecure-skip-tls-verify: true}}
users:
  - {name: me, user: {token: hunter2}}
  - name: robot
    user:
      exec:
        apiVersion: client.authentication.k8s.io/v1
        command: ./login
        args: [--for, cluster]
        env: [{name: HOME, value: /root}]
        provideClusterInfo: true
        installHint: see the wiki
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(CONFIG)
    return path


def test_the_current_context(config: Path) -> None:
    access = from_files([config])
    assert (access.server, access.server_name, access.token) == ("https://10.0.0.1:6443", "api.example", SHOWN)
    assert access.ca.path == str(config.parent / "pki/ca.crt")


def test_a_named_context_with_a_program(config: Path) -> None:
    access = from_files([config], "test")
    assert (access.server, access.insecure) == ("https://[fd00::1]:6443", True)
    assert access.plugin is not None
    assert access.plugin.command == str(config.parent / "login")
    assert access.plugin.arguments == ("--for", "cluster")
    assert access.plugin.environment == (("HOME", "/root"),)
    assert access.plugin.hint == "see the wiki"
    assert "fd00::1" in access.plugin.info


def test_several_files_are_one_and_the_first_counts(config: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "config"
    other.parent.mkdir()
    other.write_text(
        dedent("""
        current-context: test
        clusters:
          - {name: big, cluster: {server: "https://elsewhere"}}
          - {name: more, cluster: {server: "https://more", certificate-authority: ca}}
        contexts: [{name: more, context: {cluster: more, user: me}}]
        """)
    )
    assert from_files([config, other]).server == "https://10.0.0.1:6443"
    access = from_files([config, other], "more")
    assert (access.server, access.token, access.ca.path) == ("https://more", "hunter2", str(other.parent / "ca"))


def test_where_it_is_looked_for(config: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".kube").mkdir(parents=True)
    environment = {"HOME": str(home)}
    with pytest.raises(Missing, match="neither"):
        find(environment=environment)
    pod = {**environment, "KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert find(environment=pod).server == "https://10.96.0.1:443"
    (home / ".kube" / "config").write_text(CONFIG)
    assert find(environment=pod).server == "https://10.0.0.1:6443"
    assert find(environment={**pod, "KUBECONFIG": str(config)}, context="test").server == "https://[fd00::1]:6443"
    assert find(str(config), environment=pod).token == SHOWN


def test_inside_of_a_pod(tmp_path: Path) -> None:
    access = in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1"}, tmp_path)
    assert access.server == "https://[fd00::1]:443"
    assert (access.token_file, access.ca.path) == (str(tmp_path / "token"), str(tmp_path / "ca.crt"))


def test_as_a_url(config: Path) -> None:
    api = url.parse(f"kubernetes://{config}?context=test")
    assert isinstance(api, url.Api)
    assert (api.access.server, api.source) == ("https://[fd00::1]:6443", "kubernetes://https://[fd00::1]:6443")
    with pytest.raises(Invalid, match="a host"):
        url.parse("kubernetes://10.0.0.1")
    with pytest.raises(Invalid, match="'token' in the query; known are context"):
        url.parse(f"kubernetes://{config}?token=x")


@pytest.mark.parametrize(
    ("old", "new", "kind", "words"),
    [
        ("current-context: prod", "current-context: none", Missing, r"contexts: .*no context 'none'; there are: prod, test"),
        ("current-context: prod", "", Invalid, r"current-context: .*there are: prod, test"),
        ("cluster: big, user: me", "cluster: huge, user: me", Missing, "clusters: .*'huge'"),
        ("user: me", "user: you", Missing, "users: .*'you'"),
        ('server: "https://10.0.0.1:6443"', "server: 10.0.0.1", Invalid, r"clusters\[big\].server: '10.0.0.1' is not"),
        ("tls-server-name: api.example", "proxy-url: http://proxy", Unsupported, r"clusters\[big\].proxy-url: .*proxies"),
        ("token: hunter2", "username: me, password: x", Unsupported, r"users\[me\]: .*no passwords"),
        ("token: hunter2", "auth-provider: {name: gcp}", Unsupported, r"users\[me\].auth-provider: .*use exec"),
        ("token: hunter2", "exec: {args: [x]}", Invalid, r"users\[me\].exec.command"),
        (
            "certificate-authority: pki/ca.crt",
            "certificate-authority-data: '*'",
            Invalid,
            "certificate-authority-data: .*base64",
        ),
    ],
)
def test_what_is_wrong_is_named(config: Path, old: str, new: str, kind: type[Exception], words: str) -> None:
    assert old in CONFIG
    config.write_text(CONFIG.replace(old, new))
    with pytest.raises(kind, match=words):
        from_files([config])


@pytest.mark.parametrize("text", ["[]", "a: [", "\x00", "contexts: 7"])
def test_a_file_that_is_none_is_named(config: Path, text: str) -> None:
    config.write_text(text)
    with pytest.raises(Invalid):
        from_files([config])


def test_no_secret_is_shown(config: Path) -> None:
    config.write_text(CONFIG.replace("token: hunter2", "token: hunter2, client-key-data: aHVudGVyMw=="))
    access = from_files([config])
    assert (access.token, access.proof.key.data) == ("hunter2", b"hunter3")
    assert "hunter" not in repr(access)


def test_every_access_has_a_name_of_its_own_machine() -> None:
    given: dict[str, Any] = {"server": "https://x"}
    assert Access(**given).who.startswith("fairlead-")
    assert Access(**given, ca=Pem()).who == Access(**given).who
