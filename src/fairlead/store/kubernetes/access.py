"""Access: where an API server is, and as whom it is asked. From a kubeconfig, as kubectl reads it, or from inside of a pod.

::

    --store kubernetes://                          $KUBECONFIG, else ~/.kube/config, else the pod's own account
    --store kubernetes:///etc/fairlead/kubeconfig  this file
                          ...?context=prod         another context of it than the current one

Several files in ``$KUBECONFIG`` count as one; what two of them name, the first says. Proxies are not used: a network that its
nodes reach through a proxy cannot be its own foundation, so a kubeconfig that names one is refused, not ignored.
"""

from __future__ import annotations

import base64
import binascii
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fairlead.model.errors import Invalid, Missing, Unsupported

from .trust import NO_PROOF, NOTHING, Pem, Proof, Stamp

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its own account."""

NAMESPACE = "fairlead-system"
"""Where Fairlead's own Leases lie."""

Tree = dict[str, Any]


class Plugin(NamedTuple):
    """A program that says who is asking (client.authentication.k8s.io ExecCredential)."""

    command: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    version: str = "client.authentication.k8s.io/v1"
    hint: str = ""
    info: str = ""
    """The cluster, as JSON, where the program wants to know it."""


class Origin(NamedTuple):
    """The kubeconfigs that an access is from, and the context of them; none is the current one."""

    paths: tuple[Path, ...]
    context: str = ""

    @property
    def stamp(self) -> Stamp:
        """What changes when one of them is replaced; ``Invalid`` if one is not there."""
        return tuple(Pem(str(path), field="kubeconfig").stamp for path in self.paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One API server, and one who asks.

    ``who``: the name under which our changes stand in managedFields, a node's own; ``patience``: seconds for one question;
    ``quiet``: seconds without a word after which a watch may be dead (an API server tells something every minute, if it can);
    ``page``: objects in one page of a listing; ``at_once``: questions under way together.
    """

    server: str
    ca: Pem = NOTHING
    proof: Proof = NO_PROOF
    token: str = field(default="", repr=False)
    token_file: str = ""
    plugin: Plugin | None = None
    origin: Origin | None = None
    server_name: str = ""
    insecure: bool = False
    namespace: str = NAMESPACE
    who: str = field(default_factory=lambda: f"fairlead-{platform.node()}"[:128])
    patience: float = 20.0
    quiet: float = 90.0
    page: int = 500
    at_once: int = 8


def find(path: str = "", context: str = "", environment: Mapping[str, str] = os.environ, **more: Any) -> Access:
    """The access that kubectl would have: a file that is named, $KUBECONFIG, ~/.kube/config, the pod's own account."""
    named = [path] if path else [one for one in environment.get("KUBECONFIG", "").split(":") if one]
    if named:
        return from_files([Path(one).expanduser() for one in named], context, **more)
    usual = Path(environment.get("HOME", "/root")) / ".kube" / "config"
    if usual.exists():
        return from_files([usual], context, **more)
    if "KUBERNETES_SERVICE_HOST" in environment and not context:
        return in_cluster(environment, **more)
    raise Missing(f"there is no kubeconfig: neither $KUBECONFIG nor {usual}, and this is no pod", field="store")


def in_cluster(environment: Mapping[str, str] = os.environ, account: Path = ACCOUNT, **more: Any) -> Access:
    """The access of a pod. kubelet replaces the token every hour or so, and its file is read again."""
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT", "443")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    ca = Pem(str(account / "ca.crt"), field="ca.crt")
    return Access(server=server, ca=ca, token_file=str(account / "token"), **more)


def from_files(paths: list[Path], context: str = "", **more: Any) -> Access:
    """The access that one context of some kubeconfigs means."""
    config = _merged(paths)
    name = context or config.get("current-context", "")
    if not name:
        known = ", ".join(config["contexts"]) or "none"
        raise Invalid(f"no current-context, and none was named; there are: {known}", field="current-context")
    about = _one(config, "contexts", name, "context")
    cluster = _one(config, "clusters", about.get("cluster", ""), "cluster")
    user = _one(config, "users", about["user"], "user") if about.get("user") else {}
    where, who = f"clusters[{about.get('cluster')}]", f"users[{about.get('user')}]"
    server = str(cluster.get("server", "")).rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise Invalid(f"{server!r} is not the address of an API server, such as https://10.0.0.1:6443", field=f"{where}.server")
    if proxy := cluster.get("proxy-url"):
        raise Unsupported(f"{proxy!r}: proxies are not used; name the API server itself", field=f"{where}.proxy-url")
    return Access(
        server=server,
        ca=_pem(cluster, "certificate-authority", where),
        server_name=str(cluster.get("tls-server-name", "")),
        insecure=cluster.get("insecure-skip-tls-verify") is True,
        proof=Proof(_pem(user, "client-certificate", who), _pem(user, "client-key", who)),
        token=str(user.get("token", "")),
        token_file=_path(user, user.get("tokenFile", "")),
        plugin=_plugin(user, cluster, who),
        origin=Origin(tuple(paths), context),
        **more,
    )


def _merged(paths: list[Path]) -> Tree:
    """Several files as one. Each cluster, context and user remembers the folder that its paths are relative to."""
    config: Tree = {"clusters": {}, "contexts": {}, "users": {}}
    for path in paths:
        try:
            tree = yaml.safe_load(path.read_text())
        except OSError as error:
            raise Invalid(f"{path} cannot be read: {error.strerror}", field="kubeconfig") from None
        except (yaml.YAMLError, UnicodeDecodeError) as problem:
            raise Invalid(f"{path} is no kubeconfig: {str(problem).splitlines()[0]}", field="kubeconfig") from None
        if not isinstance(tree, dict):
            raise Invalid(f"{path} is no kubeconfig", field="kubeconfig")
        if tree.get("current-context"):
            config.setdefault("current-context", tree["current-context"])
        for kind, single in (("clusters", "cluster"), ("contexts", "context"), ("users", "user")):
            listed = tree.get(kind)
            for one in listed if isinstance(listed, list) else ():
                if isinstance(one, dict) and isinstance(inner := one.get(single), dict):
                    config[kind].setdefault(str(one.get("name")), {**inner, ".": str(path.absolute().parent)})
    return config


def _one(config: Tree, kind: str, name: str, word: str) -> Tree:
    found = config[kind].get(name)
    if found is None:
        raise Missing(f"the kubeconfig has no {word} {name!r}; there are: {', '.join(config[kind]) or 'none'}", field=kind)
    return dict(found)


def _path(about: Tree, name: Any) -> str:
    return str(Path(about["."]) / str(name)) if name else ""


def _pem(about: Tree, name: str, where: str) -> Pem:
    """A file, or what stands in the kubeconfig itself, which goes first."""
    if text := about.get(f"{name}-data"):
        try:
            return Pem(data=base64.b64decode(str(text), validate=True), field=f"{where}.{name}-data")
        except binascii.Error:
            raise Invalid("it is not base64", field=f"{where}.{name}-data") from None
    return Pem(_path(about, about.get(name)), field=f"{where}.{name}")


def _plugin(user: Tree, cluster: Tree, where: str) -> Plugin | None:
    if "auth-provider" in user:
        raise Unsupported("no longer exists in Kubernetes; use exec", field=f"{where}.auth-provider")
    if "username" in user:
        raise Unsupported("the API server takes no passwords since 1.19; use a token, a certificate or exec", field=where)
    given = user.get("exec")
    if not isinstance(given, dict):
        return None
    command = str(given.get("command", ""))
    if not command:
        raise Invalid("a command is required", field=f"{where}.exec.command")
    if "/" in command:
        command = _path(user, command)
    return Plugin(
        command,
        tuple(str(one) for one in given.get("args") or ()),
        tuple((str(one["name"]), str(one["value"])) for one in given.get("env") or ()),
        str(given.get("apiVersion", Plugin("").version)),
        str(given.get("installHint", "")),
        _info(cluster) if given.get("provideClusterInfo") else "",
    )


def _info(cluster: Tree) -> str:
    """The cluster, as such a program reads it."""
    import json  # noqa: PLC0415  # few programs ask for it

    known = ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data")
    return json.dumps({name: cluster[name] for name in known if name in cluster})
