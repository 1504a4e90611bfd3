"""Gate: who asks, and whether he may. What was asked is written down: (user, verb, resource, namespace)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from aiohttp import web

from .objects import Refused
from .resources import Resource

Tree = dict[str, Any]


class Asked(NamedTuple):
    """One request that was let in or refused for want of a rule."""

    user: str
    verb: str
    group: str
    resource: str
    namespace: str


class Rule(NamedTuple):
    """One rule of a role. An empty ``namespace`` is all of them."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    namespace: str
    names: frozenset[str]


class Gate:
    """Tokens, certificates and roles. Without a token everybody is let in as ``anybody``, and may do everything."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        self.certificates = False
        self.rules: dict[str, list[Rule]] = {}
        self.asked: list[Asked] = []

    def grant(self, user: str, roles: Iterable[Tree]) -> None:
        """Let a user do what Roles and ClusterRoles allow, and no more."""
        rules = self.rules.setdefault(user, [])
        for role in roles:
            for one in role["rules"]:
                rules.append(
                    Rule(
                        frozenset(one["verbs"]),
                        frozenset(one["apiGroups"]),
                        frozenset(one["resources"]),
                        role["metadata"].get("namespace", ""),
                        frozenset(one.get("resourceNames", ())),
                    )
                )

    def who(self, request: web.Request) -> str:
        """The user; 401 if he cannot prove that he is one."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer":
            if user := self.tokens.get(token):
                return user
            raise Refused(401, "Unauthorized")
        transport = request.transport
        shown = transport.get_extra_info("peercert") if transport else None
        if shown:
            subject = dict(pair[0] for pair in shown["subject"])
            return str(subject["commonName"])
        if self.tokens or self.certificates:
            raise Refused(401, "Unauthorized")
        return "anybody"

    def let(self, user: str, verb: str, of: Resource, namespace: str, name: str, part: str) -> None:
        """Raise 403 unless the user may."""
        resource = f"{of.plural}/{part}" if part else of.plural
        self.asked.append(Asked(user, verb, of.group, resource, namespace))
        if user not in self.rules and (user == "anybody" or not self.rules):
            return
        for rule in self.rules.get(user, ()):
            if (
                {verb, "*"} & rule.verbs
                and {of.group, "*"} & rule.groups
                and {resource, "*"} & rule.resources
                and rule.namespace in {"", namespace}
                and (not rule.names or name in rule.names)
            ):
                return
        where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        what = f'{of.name} "{name}" is' if name else f"{of.name} is"
        text = f'{what} forbidden: User "{user}" cannot {verb} resource "{resource}" in API group "{of.group}" {where}'
        raise Refused(403, text, name=name, kind=of.plural)
