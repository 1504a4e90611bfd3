"""Resources: which kind lies where in the API, and how its objects are named there.

Kubernetes's own kinds are what they are everywhere. Ours are custom resources of the group ``fairlead.dev``, one for each kind
of the model; their definitions are in ``deploy/kubernetes``, made from the same classes.

Of Secrets only those in Fairlead's own namespace are listed and watched: what others keep secret is nobody's business here.

Ours may have names that Kubernetes does not take, ``<container>:<interface>`` for one. Such a one is kept under a name that is
made from it, with the name itself beside it as an annotation::

    4f0c…:eth0  ──►  4f0c…-eth0.x3b1c9f2a77d0e4c1      fairlead.dev/name: "4f0c…:eth0"
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple
from urllib.parse import quote

from fairlead.model.codec import KINDS
from fairlead.model.errors import Invalid
from fairlead.model.meta import GROUP, Object, kind
from fairlead.model.namespace import DEFAULT
from fairlead.model.secret import Secret
from fairlead.store.base import Key, kind_of

from .access import NAMESPACE as NAMESPACE_OF_OURS

NAME, NAMESPACE = "fairlead.dev/name", "fairlead.dev/namespace"
"""Annotations: what an object of ours is really called."""

LONGEST: Final = 253
"""Characters of a name, and of most else that is named."""

_OLDER: Final = {"endpointslices": ("discovery.k8s.io/v1beta1",)}
"""Versions of before Kubernetes 1.21."""

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MADE = re.compile(r"(.*\.)?x[0-9a-f]{16}")
_ODD = re.compile(r"[^a-z0-9]+")


class Resource(NamedTuple):
    """One kind as the API has it."""

    of: type[Object]
    api_version: str
    plural: str
    namespaced: bool

    @property
    def ours(self) -> bool:
        """Whether it is a custom resource of Fairlead's own."""
        return self.api_version == GROUP

    @property
    def versions(self) -> tuple[str, ...]:
        """All in which it can be read: older clusters have some kinds in others, of the same shape where it matters."""
        return (_api_version(self.of), *_OLDER.get(self.plural, ()))

    @property
    def kind(self) -> str:
        """As it is written in YAML."""
        return kind(self.of)

    @property
    def everything(self) -> str:
        """The path of all objects of the kind that are read."""
        home = f"namespaces/{NAMESPACE_OF_OURS}/" if self.of is Secret else ""
        return f"{_root(self.api_version)}/{home}{self.plural}"

    def collection(self, key: Key) -> str:
        """The path that an object is created under."""
        if not self.namespaced:
            return f"{_root(self.api_version)}/{self.plural}"
        return f"{_root(self.api_version)}/namespaces/{quote(key[0] or DEFAULT, safe='')}/{self.plural}"

    def path(self, key: Key) -> str:
        """The path of one object."""
        return f"{self.collection(key)}/{quote(self.spelt(key), safe='')}"

    def spelt(self, key: Key) -> str:
        """The name of an object in the API; ``Invalid`` if Kubernetes takes no such name."""
        namespace, name = key
        if self.ours and not self.namespaced:
            return slug(namespace, name)
        if self.namespaced and not _fits(namespace or DEFAULT):
            raise Invalid(f"{namespace[:80]!r} is no name of a namespace", field="metadata.namespace")
        if not _fits(name):
            raise Invalid(f"{name[:80]!r} is no name that Kubernetes takes for a {self.kind}", field="metadata.name")
        return name


def slug(namespace: str, name: str) -> str:
    """A name that Kubernetes takes, for one that it may not take; the same for the same, and no other's."""
    if not namespace and _fits(name) and not _MADE.fullmatch(name):
        return name
    digest = hashlib.sha256(f"{namespace}\0{name}".encode()).hexdigest()[:16]
    readable = _ODD.sub("-", f"{namespace}-{name}".lower()).strip("-")[:200].strip("-")
    return f"{readable}.x{digest}" if readable else f"x{digest}"


def resource(plural: str) -> Resource:
    """Where a kind lies; ``Missing`` if there is no such kind."""
    kind_of(plural)
    return RESOURCES[plural]


def _fits(name: str) -> bool:
    return len(name) <= LONGEST and _SUBDOMAIN.fullmatch(name) is not None


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _api_version(of: type[Object]) -> str:
    return str(of.__struct_defaults__[of.__struct_fields__[-len(of.__struct_defaults__) :].index("api_version")])


RESOURCES: dict[str, Resource] = {one.plural: Resource(one, _api_version(one), one.plural, one.namespaced) for one in KINDS}
"""Every kind, by its plural."""
