"""The language that picks and orders runs: `metrics.loss < 0.3 and (params.kind = 'gbm' or tags.team is null)`.

    filter     = any of: filter and filter, filter or filter, not filter, (filter), comparison
    comparison = name op value | name like 'a%' | name ilike 'a%' | name [not] in (value, …) | name is [not] null
    name       = metrics.KEY, min(metrics.KEY), max(metrics.KEY) (a bare metric is its last value), params.KEY, tags.KEY,
                 or one of id, name, status, user, project, started, ended, environment, parent, job
    op         = = == != <> < <= > >=

A key with other characters than letters, digits and `._/-` stands in backticks or double quotes: metrics.`val loss`. A
comparison holds only for runs that have the value; those without are found by `is null`. Parameters compare as numbers
with a number and as text with a text. Times are milliseconds or text such as '2026-01-31'.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import sqlalchemy as sa

from stead.errors import InvalidInput, SteadError, did_you_mean
from stead.runs.tables import experiments, metric_summaries, params, run_tags, runs
from stead.runtime.clock import to_ms

Clause = sa.ColumnElement[bool]

ATTRIBUTES: dict[str, sa.ColumnElement[Any]] = {
    "id": runs.c.id,
    "name": runs.c.name,
    "status": runs.c.status,
    "user": runs.c.user,
    "project": experiments.c.name,
    "started": runs.c.started_at,
    "ended": runs.c.ended_at,
    "environment": runs.c.environment,
    "parent": runs.c.parent_id,
    "job": runs.c.job_id,
}
_ALIASES = {
    "run_id": "id",
    "run_name": "name",
    "user_id": "user",
    "experiment": "project",
    "start_time": "started",
    "started_at": "started",
    "end_time": "ended",
    "ended_at": "ended",
}
_KINDS = {
    "metric": "metrics",
    "metrics": "metrics",
    "param": "params",
    "params": "params",
    "parameter": "params",
    "parameters": "params",
    "tag": "tags",
    "tags": "tags",
    "attribute": "attributes",
    "attributes": "attributes",
    "attr": "attributes",
}
_TIMES = ("started", "ended")
_AGGREGATES = ("last", "min", "max")
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|inf)(?![\w./-]))
    | (?P<text>'(?:[^']|'')*')
    | (?P<quoted>`[^`]*`|"[^"]*")
    | (?P<op><=|>=|!=|<>|==|=|<|>)
    | (?P<mark>[(),])
    | (?P<word>[A-Za-z_][\w./-]*)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Name:
    """What is compared or ordered by: `metrics`, `params`, `tags` or `attributes`, and which."""

    kind: str
    key: str
    aggregate: str = "last"


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse(text: str) -> Clause | None:
    """The condition on `runs` joined with `experiments`; None for an empty text. Raises InvalidInput (`filter-invalid`)."""
    parser = _Parser(text)
    if parser.next.kind == "end":
        return None
    clause = parser.either()
    if parser.next.kind != "end":
        parser.fail("here 'and', 'or' or the end was expected")
    return clause


def parse_order(text: str) -> tuple[Name, bool]:
    """What to order by, and whether the greatest comes first: `metrics.loss`, `min(metrics.loss) desc`, `started desc`."""
    parser = _Parser(text, what="order")
    name = parser.name()
    direction = parser.take_word("desc", "asc")
    if parser.next.kind != "end":
        parser.fail("here 'asc', 'desc' or the end was expected")
    return name, direction == "desc"


class _Parser:
    def __init__(self, text: str, *, what: str = "filter") -> None:
        self.text = text
        self.what = what
        self.tokens = self._tokens()
        self.place = 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.place]

    def either(self) -> Clause:
        clauses = [self.both()]
        while self.take_word("or"):
            clauses.append(self.both())
        return sa.or_(*clauses) if len(clauses) > 1 else clauses[0]

    def both(self) -> Clause:
        clauses = [self.one()]
        while self.take_word("and"):
            clauses.append(self.one())
        return sa.and_(*clauses) if len(clauses) > 1 else clauses[0]

    def one(self) -> Clause:
        if self.take_word("not"):
            return sa.not_(self.one())
        if self.take("mark", "("):
            clause = self.either()
            if not self.take("mark", ")"):
                self.fail("a ')' is missing")
            return clause
        return self.comparison()

    def comparison(self) -> Clause:
        name = self.name()
        if self.take_word("is"):
            absent = not self.take_word("not")
            if not self.take_word("null"):
                self.fail("after 'is' comes 'null' or 'not null'")
            present = _present(name)
            return sa.not_(present) if absent else present
        if (word := self.take_word("like", "ilike")) is not None:
            pattern = self.value()
            if not isinstance(pattern, str) or name.kind == "metrics":
                self.fail(f"'{word}' compares a parameter, tag or name with a text")
            method = "like" if word == "like" else "ilike"
            return _holds(name, lambda column: getattr(column, method)(pattern), number=False)
        negated = self.take_word("not") is not None
        if self.take_word("in"):
            return self._in(name, negated)
        if negated:
            self.fail("after 'not' comes 'in'")
        if self.next.kind != "op":
            self.fail("a comparison was expected: =, !=, <, <=, >, >=, like, ilike, in, is null")
        operator = _OPERATORS[self.advance().text]
        value = self._fitting(name, self.value())
        return _holds(name, lambda column: operator(column, value), number=isinstance(value, float))

    def name(self) -> Name:
        token = self.next
        if token.kind != "word":
            self.fail("a name was expected, such as metrics.loss, params.lr, tags.team or status")
        self.advance()
        if token.text.lower() in _AGGREGATES and self.take("mark", "("):
            inner = self.name()
            if not self.take("mark", ")"):
                self.fail("a ')' is missing")
            if inner.kind != "metrics":
                self.fail(f"'{token.text}' is of a metric", token)
            return Name("metrics", inner.key, token.text.lower())
        head, dot, key = token.text.partition(".")
        if dot and not key and self.next.kind == "quoted":
            key = self.advance().text[1:-1]
        if dot and head.lower() in _KINDS:
            kind = _KINDS[head.lower()]
            if not key:
                self.fail(f"after '{head}.' the name of one is missing", token)
            return self._attribute(key, token) if kind == "attributes" else Name(kind, key)
        return self._attribute(token.text, token)

    def value(self) -> float | str:
        token = self.next
        if token.kind == "number":
            return float(self.advance().text)
        if token.kind == "text":
            return self.advance().text[1:-1].replace("''", "'")
        if token.kind == "quoted" and token.text[0] == '"':
            return self.advance().text[1:-1]
        return self.fail("a number or a text in quotes was expected")

    def take(self, kind: str, text: str) -> bool:
        found = self.next.kind == kind and self.next.text == text
        self.place += found
        return found

    def take_word(self, *words: str) -> str | None:
        if self.next.kind == "word" and self.next.text.lower() in words:
            return self.advance().text.lower()
        return None

    def advance(self) -> _Token:
        self.place += 1
        return self.tokens[self.place - 1]

    def fail(self, problem: str, token: _Token | None = None, *, hint: str | None = None) -> NoReturn:
        at = (token or self.next).at
        example = "metrics.loss < 0.3 and params.kind = 'gbm'" if self.what == "filter" else "metrics.loss desc"
        raise InvalidInput(
            f"{self.what}-invalid",
            f"{self.what} {self.text!r}, at character {at + 1}: {problem}",
            hint=hint or example,
            at=at,
        )

    def _in(self, name: Name, negated: bool) -> Clause:
        values: list[Any] = []
        if not self.take("mark", "("):
            self.fail("after 'in' comes a list: ('a', 'b')")
        while True:
            values.append(self._fitting(name, self.value()))
            if self.take("mark", ")"):
                break
            if not self.take("mark", ","):
                self.fail("a ',' or ')' was expected")
        number = all(isinstance(value, float) for value in values)
        if not number and any(isinstance(value, float) for value in values):
            self.fail("numbers and texts in one list")
        return _holds(name, lambda column: column.not_in(values) if negated else column.in_(values), number=number)

    def _fitting(self, name: Name, value: float | str) -> float | int | str:
        """The value as the name's column compares it."""
        if name.kind == "metrics" and isinstance(value, str):
            self.fail(f"a metric compares with a number, not with {value!r}", self.tokens[self.place - 1])
        if name.kind == "tags" and not isinstance(value, str):
            self.fail("a tag compares with a text in quotes", self.tokens[self.place - 1])
        if name.kind == "attributes":
            if name.key in _TIMES:
                try:
                    return to_ms(value)
                except SteadError as error:
                    self.fail(error.message, self.tokens[self.place - 1], hint=error.hint)
            if not isinstance(value, str):
                self.fail(f"'{name.key}' compares with a text in quotes", self.tokens[self.place - 1])
        return value

    def _attribute(self, text: str, token: _Token) -> Name:
        key = _ALIASES.get(text.lower(), text.lower())
        if key not in ATTRIBUTES:
            near = did_you_mean(text, [*ATTRIBUTES, *_ALIASES])
            self.fail(
                f"{text!r} is not known",
                token,
                hint=near or f"metrics.KEY, params.KEY, tags.KEY, or one of {', '.join(ATTRIBUTES)}",
            )
        return Name("attributes", key)

    def _tokens(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while self.text[at:].strip():
            match = _TOKEN.match(self.text, at)
            if match is None or match.lastgroup is None:
                rest = self.text[at:].lstrip()
                tokens.append(_Token("unknown", rest, len(self.text) - len(rest)))
                break
            tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            at = match.end()
        return [*tokens, _Token("end", "", len(self.text))]


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _holds(name: Name, condition: Callable[[Any], Any], *, number: bool) -> Clause:
    if name.kind == "attributes":
        clause: Clause = condition(ATTRIBUTES[name.key])
        return clause
    table = {"metrics": metric_summaries, "params": params, "tags": run_tags}[name.kind].alias()
    column = table.c[name.aggregate] if name.kind == "metrics" else table.c.value
    if name.kind == "params" and number:
        column = table.c.number
    return sa.exists().where(table.c.run_id == runs.c.id, table.c.key == name.key, condition(column))


def _present(name: Name) -> Clause:
    if name.kind == "attributes":
        return ATTRIBUTES[name.key].is_not(None)
    return _holds(name, lambda column: sa.true(), number=False)
