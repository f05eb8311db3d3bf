"""What a PromQL expression asks for: metrics and labels. A reader of names, no judge of syntax (promtool is)."""

import re
from typing import NamedTuple

TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<range>\[[^\]]*\])
      | (?P<number>(?:\d+(?:\.\d+)?(?:ms|[smhdwy]))+|\d+(?:\.\d+)?(?:e[+-]?\d+)?)
      | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
      | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^=<>(){},@])
      | (?P<space>\s+)""",
    re.VERBOSE,
)
GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
WORDS = {"and", "or", "unless", "offset", "bool", "inf", "nan", "atan2"}


class Query(NamedTuple):
    """Names in one expression."""

    metrics: dict[str, set[str]]
    """Labels that are matched, by metric."""
    grouped: list[list[str]]
    """Labels of each by(), on() and the like, in order."""


def read(expression):
    """The metrics and labels of an expression. Raises AssertionError at a sign that PromQL does not have."""
    tokens = list(_tokens(expression))
    metrics: dict[str, set[str]] = {}
    grouped = []
    at = 0
    while at < len(tokens):
        kind, text = tokens[at]
        following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        if kind == "name" and text in GROUPING:
            assert following == "(", f"{text} without a list of labels in {expression}"
            end = tokens.index(("sign", ")"), at)
            grouped.append([word for sort, word in tokens[at:end] if sort == "name" and word not in GROUPING])
            at = end
        elif kind == "name" and text.lower() not in WORDS and following != "(" and following not in GROUPING:
            labels = metrics.setdefault(text, set())
            if following == "{":
                end = tokens.index(("sign", "}"), at)
                labels.update(word for sort, word in tokens[at + 1 : end] if sort == "name")
                at = end
        at += 1
    return Query(metrics, grouped)


def _tokens(expression):
    at = 0
    while at < len(expression):
        found = TOKEN.match(expression, at)
        assert found, f"PromQL has no {expression[at : at + 20]!r}"
        at = found.end()
        if found.lastgroup != "space":
            yield found.lastgroup, found.group()
