"""Groups: endpoints of one profile, the policies that select them, and the sets that these make in each direction."""

from __future__ import annotations

from .drawers import Drawers
from .identity import Class, Face, Profile
from .select import DIRECTIONS, Key, Prepared
from .sets import Sets

Pair = tuple[int, int]
"""The numbers of the sets for ingress and egress; 0 is none."""


class Group:
    """The endpoints of one profile."""

    __slots__ = ("face", "names", "selecting", "subject")

    def __init__(self, who: Profile) -> None:
        self.face = Face.of(Class(who, ()))
        self.names: set[str] = set()
        self.selecting: dict[Key, Prepared] = {}
        self.subject: Pair = (0, 0)


class Groups:
    """Every endpoint in its group, every policy with those it selects. What changed takes effect with ``settle``."""

    def __init__(self, sets: Sets) -> None:
        self.policies: dict[Key, Prepared] = {}
        self._sets = sets
        self._profiles: dict[str, Profile] = {}
        self._groups: dict[Profile, Group] = {}
        self._lying: Drawers[Key] = Drawers()
        self._faces: Drawers[Profile] = Drawers()
        self._stale: set[Profile] = set()
        self._before: dict[str, Pair | None] = {}

    def subject(self, name: str) -> Pair | None:
        """The sets of an endpoint; None if there is none of that name."""
        who = self._profiles.get(name)
        return self._groups[who].subject if who else None

    def profile(self, name: str) -> Profile | None:
        """The profile of an endpoint that is here."""
        return self._profiles.get(name)

    def selecting(self, who: Profile) -> list[Prepared]:
        """The policies that are for endpoints of a profile, in the order in which they are asked."""
        face = Face.of(Class(who, ()))
        near = (self.policies[key] for key in self._lying.near(face.drawers()))
        return sorted((one for one in near if one.subject.matches(face)), key=lambda one: one.order)

    def join(self, name: str, who: Profile) -> None:
        """The endpoint ``name`` is of that profile now."""
        self._before.setdefault(name, self.subject(name))
        if self._profiles.get(name) == who:
            return
        self.leave(name)
        self._profiles[name] = who
        if who not in self._groups:
            group = self._groups[who] = Group(who)
            self._faces.lay(who, group.face.drawers())
            near = (self.policies[key] for key in self._lying.near(group.face.drawers()))
            group.selecting = {one.key: one for one in near if one.subject.matches(group.face)}
            self._stale.add(who)
        self._groups[who].names.add(name)

    def leave(self, name: str) -> None:
        """There is no endpoint ``name``."""
        who = self._profiles.pop(name, None)
        if who is not None:
            self._groups[who].names.discard(name)
            self._stale.add(who)

    def put(self, policy: Prepared) -> Prepared | None:
        """There is this policy; the one that was there of its key."""
        old = self.drop(policy.key)
        self.policies[policy.key] = policy
        self._lying.lay(policy.key, (policy.subject.drawer,))
        for who in self._faces.near((policy.subject.drawer,)):
            group = self._groups[who]
            if policy.subject.matches(group.face):
                group.selecting[policy.key] = policy
                self._stale.add(who)
        return old

    def drop(self, key: Key) -> Prepared | None:
        """There is no such policy; the one that was there."""
        old = self.policies.pop(key, None)
        if old is None:
            return None
        self._lying.take(key, (old.subject.drawer,))
        for who in self._faces.near((old.subject.drawer,)):
            if self._groups[who].selecting.pop(key, None):
                self._stale.add(who)
        return old

    def settle(self) -> None:
        """Have every group that changed under its sets."""
        for who in self._stale:
            group = self._groups[who]
            old = group.subject
            group.subject = self._hold(group)
            for own in old:
                self._sets.release(own)
            if group.subject != old:
                for name in group.names:
                    self._before.setdefault(name, old)
            if not group.names:
                del self._groups[who]
                self._faces.take(who, group.face.drawers())
        self._stale = set()

    def flipped(self) -> frozenset[str]:
        """The endpoints that are new or under other sets than when this was asked before."""
        before, self._before = self._before, {}
        return frozenset(name for name, old in before.items() if name in self._profiles and self.subject(name) != old)

    def _hold(self, group: Group) -> Pair:
        if not group.names:
            return (0, 0)
        policies = group.selecting.values()
        ingress, egress = (
            self._sets.hold(one, [each for each in policies if one in each.directions], group.face.ports) for one in DIRECTIONS
        )
        return (ingress, egress)
