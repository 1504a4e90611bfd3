"""URLs of stores: what each part means, what is refused and why, and that no password is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model.errors import Invalid
from fairlead.store.url import PASSWORD, Cluster, File, parse


def etcd(text: str, secret: str = "") -> Cluster:
    found = parse(text, {PASSWORD: secret})
    assert isinstance(found, Cluster)
    return found


def test_a_file() -> None:
    found = parse("sqlite:///var/lib/fairlead/a%20store.db")
    assert found == File(Path("/var/lib/fairlead/a store.db"))
    assert found.source == "sqlite:///var/lib/fairlead/a%20store.db"


def test_members_and_what_is_left_out() -> None:
    access = etcd("etcd://10.0.0.1").access
    assert (access.endpoints, access.prefix, access.tls) == (("10.0.0.1:2379",), "/fairlead", False)
    assert (access.ca, access.cert, access.key, access.user, access.password) == ("", "", "", "", "")
    found = etcd("etcd://b.example:1,[fd00::3],10.0.0.1:2379,10.0.0.1,[fd00:0::4]:99/a/b/")
    assert found.access.endpoints == ("b.example:1", "[fd00::3]:2379", "10.0.0.1:2379", "[fd00::4]:99")
    assert found.access.prefix == "/a/b"
    assert found.source == "etcd://10.0.0.1:2379,[fd00::3]:2379,[fd00::4]:99,b.example:1/a/b"


@pytest.mark.parametrize("text", ["etcds://h", "etcd://h?ca=/ca", "etcd://h?cert=/both", "etcd://h?ca=/ca&cert=/c&key=/k"])
def test_what_asks_for_tls(text: str) -> None:
    assert etcd(text).access.tls


def test_the_password_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file, written, hush = tmp_path / "password", " a b", "hush/%"
    file.write_text(f"{written}\n")
    url = f"etcd://h?user=me&password-file={file}"
    assert etcd(url).access.password == written
    assert etcd(url, hush).access.password == written
    found = etcd("etcd://h?user=me%2Fyou", hush)
    assert (found.access.user, found.access.password) == ("me/you", hush)
    assert hush not in f"{found} {found!r} {found.source}"
    assert not etcd("etcd://h", hush).access.password


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "scheme ''"),
        ("/var/lib/store.db", "the scheme '/var/lib"),
        ("http://h", "there are sqlite:///FILE, etcd://"),
        ("sqlite://store.db", "three slashes"),
        ("sqlite:store.db", "the scheme"),
        ("sqlite:///var/lib/", "three slashes"),
        ("sqlite:///a?b=c", "sqlite has none"),
        ("etcd://", "no member"),
        ("etcd://a,,b", "'', which is no member"),
        ("etcd://a b", "no member"),
        ("etcd://fd00::3", "no member; write HOST:PORT, an IPv6 address in brackets"),
        ("etcd://[fd00::3::4]", "no IPv6 address"),
        ("etcd://[fd00::3]x", "no member"),
        ("etcd://[10.0.0.1", "no member"),
        ("etcd://[x]", "no member"),
        ("etcd://h:0", "'0' is not a port"),
        ("etcd://h:99999", "'99999' is not a port"),
        ("etcd://h:x", "'x' is not a port"),
        ("etcd://h:", "'' is not a port"),
        ("etcd://" + ",".join(f"h{at}" for at in range(33)), "33 members"),
        ("etcd://h/a b", "the prefix '/a b' must be"),
        ("etcd://h/../x", "the prefix"),
        ("etcd://h?ca=ca.crt", "absolute path"),
        ("etcd://h?key=/k", "key without cert"),
        ("etcd://h?colour=red", "'colour' in the query; known are ca, cert"),
        ("etcd://h?ca=", "ca without a value"),
        ("etcd://h?ca=/a&ca=/b", "a name twice"),
        ("etcd://h?ca", "form name=value"),
        ("etcd://h?user=me", "user without a password; name password-file, or set FAIRLEAD_STORE_PASSWORD"),
        ("etcd://h?password-file=/x", "password-file without user"),
        ("etcd://h?user=me&password-file=/nowhere/x", "No such file"),
        ("etcd://h#x", "'#'"),
        ("etcd://h/\n", "cannot be printed"),
        ("etcd://" + "h" * 5000, "more than 4096"),
        ("etcd://" + "h" * 300, "no member"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(text, {})
    assert words in str(refused.value)
    assert refused.value.field == "store"


@pytest.mark.parametrize(
    "text",
    ["etcd://me:hush@h", "etcd://me@h?x=hush", "etcd://h?user=me&password=hush", "etcd://h:1,me:hush@k/x", "http://me:hush@h"],
)
def test_a_password_in_it_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(Invalid, match="password") as refused:
        parse(text, {})
    assert "hush" not in str(refused.value)


@given(st.one_of(st.text(), st.text("etcdsqli:/?&=@[]#,.%0h\n"), st.text().map(lambda text: f"etcd://{text}")))
def test_whatever_it_is_it_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text, {})
    except Invalid as problem:
        assert problem.message  # noqa: PT017  # either outcome is right; a third is not
    else:
        assert parse(found.source, {}).source == found.source
