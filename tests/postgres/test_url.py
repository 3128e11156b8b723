"""URLs of databases: parsed and rendered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkseed.errors import InputError
from bulkseed.postgres.address import Url
from support.errors import raises

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
hosts = st.one_of(words, st.ip_addresses().map(str))
urls = st.builds(
    Url,
    st.just("postgresql"),
    st.none() | words,
    st.none() | words,
    st.none() | hosts,
    st.none() | st.integers(0, 65535),
    st.none() | words,
    st.lists(st.tuples(words, words), max_size=3).map(tuple),
)


@given(urls)
def test_a_rendered_url_is_parsed_to_the_same(url: Url) -> None:
    assert Url.parse(url.render()) == url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("postgresql://", Url("postgresql")),
        ("postgresql://h", Url("postgresql", host="h")),
        ("postgresql://[::1]:5/d", Url("postgresql", host="::1", port=5, database="d")),
        ("postgresql://%2Ftmp/d", Url("postgresql", host="/tmp", database="d")),
        ("postgres://u:a/b?c@h/d", Url("postgres", "u", "a/b?c", "h", database="d")),
        ("postgresql://a:1,[::1]:2/d", Url("postgresql", database="d", query=(("host", "a:1,[::1]:2"),))),
        ("postgresql:///d?host=a&host=b&x=", Url("postgresql", database="d", query=(("host", "a"), ("host", "b")))),
        (
            "postgresql://h:5/d?user=me@tenant",
            Url("postgresql", host="h", port=5, database="d", query=(("user", "me@tenant"),)),
        ),
        (
            "postgresql://a:1,b:2/d?user=x@y",
            Url("postgresql", database="d", query=(("host", "a:1,b:2"), ("user", "x@y"))),
        ),
        ("postgresql://u:p?a/1@h:5/", Url("postgresql", "u", "p?a/1", "h", 5)),
        ("postgresql://h/d?email=a@b", Url("postgresql", host="h", database="d", query=(("email", "a@b"),))),
    ],
)
def test_forms(text: str, url: Url) -> None:
    assert Url.parse(text) == url


@pytest.mark.parametrize("text", ["", "h/d", "postgresql:h", "postgresql://h:x/d", "postgresql://%ff/d", "a b://h/d"])
def test_text_that_is_no_url(text: str) -> None:
    with raises("invalid-url", "postgresql://user:password@host:port/database", kind=InputError):
        Url.parse(text)


def test_a_url_is_not_shown_unasked() -> None:
    url = Url.parse("postgresql://u:secret@h/d?password=secret")
    assert "secret" not in f"{url} {url!r}"
    assert hash(url) == hash(Url.parse("postgresql://u:secret@h/d?password=secret"))


def test_an_at_in_a_user_must_be_escaped() -> None:
    with raises("unescaped-at", "%40", kind=InputError) as caught:
        Url.parse("postgresql://user@tenant:secret@h/d")
    assert "secret" not in str(caught.value)
