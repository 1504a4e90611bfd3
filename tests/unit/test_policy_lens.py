"""What policies look at, kept once for all in whom they see the same."""

from __future__ import annotations

from fairlead.policy.lens import THERE, Kind, Lens
from tests.unit.policy_world import endpoint

PORTS = {"http": "80/tcp"}


def test_those_in_whom_policies_see_the_same_share_it() -> None:
    lens = Lens()
    lens.use([(Kind.POD, "app", "web"), (Kind.POD, "serial", THERE), (Kind.OWN_PORT, "http", "")])
    pods = [endpoint(f"p{at}", "shop", {"app": "web", "serial": str(at)}, (), PORTS) for at in range(50)]
    found = [lens.profile(one, {}) for one in pods]
    assert {id(one) for one in found} == {id(found[0])}
    assert {id(lens.outside(one)) for one in found} == {id(lens.outside(found[0]))}
    assert lens.outside(found[0]) == found[0]._replace(ports=())
    other = lens.profile(endpoint("other", "shop", {"app": "db"}, ()), {})
    assert other != found[0]


def test_what_is_remembered_is_what_policies_see_now() -> None:
    lens, pod = Lens(), endpoint("p", "shop", {"app": "web"}, ())
    assert lens.profile(pod, {}).labels == ()
    lens.use([(Kind.POD, "app", "web")])
    assert lens.profile(pod, {}).labels == (("app", "web"),)
    lens.disuse([(Kind.POD, "app", "web")])
    assert lens.profile(pod, {}).labels == ()
