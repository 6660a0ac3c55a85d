"""A filter that is not understood says where and why."""

from __future__ import annotations

import pytest

from stead.errors import InvalidInput
from stead.runs.filters import parse, parse_order


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("metrics.loss", 13, "a comparison was expected"),
        ("metrics.loss < ", 16, "a number or a text"),
        ("metrics.loss < 'a'", 16, "a metric compares with a number"),
        ("metrics. < 1", 1, "the name of one is missing"),
        ("tags.a = 3", 10, "a tag compares with a text"),
        ("(params.a = 1", 14, "a ')' is missing"),
        ("params.a = 1 params.b = 2", 14, "'and', 'or' or the end"),
        ("params.a = 1 and", 17, "a name was expected"),
        ("statsu = 'failed'", 1, "'statsu' is not known"),
        ("params.a in 1", 13, "a list"),
        ("params.a in (1, 'b')", 21, "numbers and texts"),
        ("params.a is 1", 13, "'null' or 'not null'"),
        ("min(params.a) < 1", 1, "is of a metric"),
        ("status = 3", 10, "compares with a text"),
        ("started > 'yesterday'", 11, "not a time"),
        ("metrics.a like 'x'", 19, "'like' compares"),
        ("params.a = 'open", 12, "a number or a text"),
        ("params.a = 1; drop table runs", 13, "the end"),
        ("params.a not like 'x'", 14, "after 'not' comes 'in'"),
    ],
)
def test_errors_name_the_place(text: str, at: int, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert caught.value.code == "filter-invalid"
    assert words in caught.value.message
    assert f"at character {at}:" in caught.value.message
    assert caught.value.hint


def test_a_mistyped_name_has_a_suggestion() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse("statsu = 'failed'")
    assert caught.value.hint == "did you mean 'status'?"


@pytest.mark.parametrize("text", ["", "metrics.a up", "mean(metrics.a)", "params.a, params.b"])
def test_orders_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_order(text)
    assert caught.value.code == "order-invalid"


def test_an_order_has_a_direction() -> None:
    assert parse_order("metrics.`val loss` DESC")[1]
    assert not parse_order("min(metrics.a/b.c) asc")[1]
    assert parse("   ") is None
