"""CloudWatch Logs Insights: the few forms of query that the dashboard uses, on simulated lines.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    type Line = tuple[float, str, str]
    type Row = dict[str, Any]
    type Step = Callable[[list[Row]], list[Row]]
    type Condition = tuple[str, Callable[[Any], bool]]

TIMESTAMP = "@timestamp"
BIN, BIN_SECONDS = "bin(10m)", 600
_NAME = r"@?\w+"
_SOURCE = re.compile(r"'(?P<group>[\w/-]+)'")
_CONDITION = re.compile(
    rf"(?P<field>{_NAME}) (?:= '(?P<text>[^']*)'|> (?P<number>\d+)"
    r"|in \[(?P<texts>'[^']*'(?:, '[^']*')*)\])"
)
_VALUE = re.compile(rf"(?P<function>sum|max|latest)\((?P<field>{_NAME})\) as (?P<name>\w+)")
_STATS = re.compile(rf"(?P<values>.+) by (?P<by>{re.escape(BIN)}|{_NAME})")
_FIELDS = re.compile(rf"{_NAME}(?:, {_NAME})*")
_SORT = re.compile(rf"(?P<field>{_NAME}) (?P<order>asc|desc)")
_LIMIT = re.compile(r"\d+")


@dataclass
class Query:
    """A parsed query.

    Attributes:
        groups: the log groups that it reads.
        used: the fields of the lines that it names.
        columns: what its result has.
        steps: what it does with the lines, in order.
    """

    groups: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    columns: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def run(self, lines: Iterable[Line]) -> list[Row]:
        """Return the result.

        Args:
            lines: each with its time, its log group and its text; those of JSON have fields.
        """
        rows = [
            json.loads(text) | {TIMESTAMP: second}
            for second, group, text in sorted(lines)
            if group in self.groups and text.startswith("{")
        ]
        for step in self.steps:
            rows = step(rows)
        return [{name: row.get(name) for name in self.columns} for row in rows]


def parse(text: str) -> Query:
    """Return a query.

    Raises:
        ValueError: it uses something that is not simulated.
    """
    query = Query()
    for command in text.split(" | "):
        word, _, rest = command.partition(" ")
        if word not in _COMMANDS:
            raise ValueError(f"{command!r} is not simulated")
        _COMMANDS[word](query, rest)
    return query


def _source(query: Query, rest: str) -> None:
    query.groups.append(_matched(_SOURCE, rest)["group"])


def _filter(query: Query, rest: str) -> None:
    conditions = [_condition(each) for each in rest.split(" and ")]
    query.used |= {name for name, _ in conditions}
    query.steps.append(
        lambda rows: [
            row for row in rows if all(holds(row.get(name)) for name, holds in conditions)
        ]
    )


def _stats(query: Query, rest: str) -> None:
    found = _matched(_STATS, rest)
    values, by = [_matched(_VALUE, each) for each in found["values"].split(", ")], found["by"]
    query.used |= {each["field"] for each in values} | ({by} - {BIN})
    query.columns = [by, *(each["name"] for each in values)]
    query.steps.append(lambda rows: list(_grouped(rows, by, values)))


def _fields(query: Query, rest: str) -> None:
    query.columns = _matched(_FIELDS, rest)[0].split(", ")
    query.used |= {*query.columns}


def _sort(query: Query, rest: str) -> None:
    found = _matched(_SORT, rest)
    name, is_descending = found["field"], found["order"] == "desc"
    query.steps.append(lambda rows: sorted(rows, key=lambda row: row[name], reverse=is_descending))


def _limit(query: Query, rest: str) -> None:
    number = int(_matched(_LIMIT, rest)[0])
    query.steps.append(lambda rows: rows[:number])


_COMMANDS: Mapping[str, Callable[[Query, str], None]] = {
    "SOURCE": _source,
    "filter": _filter,
    "stats": _stats,
    "fields": _fields,
    "sort": _sort,
    "limit": _limit,
}


def _condition(text: str) -> Condition:
    found = _matched(_CONDITION, text)
    if found["number"]:
        least = int(found["number"])
        return found["field"], lambda value: isinstance(value, int | float) and value > least
    texts = re.findall(r"'([^']*)'", found["texts"] or f"'{found['text']}'")
    return found["field"], lambda value: value in texts


def _grouped(rows: list[Row], by: str, values: Sequence[re.Match[str]]) -> Iterator[Row]:
    def key(row: Row) -> Any:
        return row[TIMESTAMP] // BIN_SECONDS * BIN_SECONDS if by == BIN else row[by]

    for group, found in groupby(sorted(rows, key=key), key):
        members = list(found)
        yield {by: group} | {each["name"]: _aggregated(each, members) for each in values}


def _aggregated(value: re.Match[str], rows: Sequence[Row]) -> Any:
    found = [row.get(value["field"]) for row in rows]
    if value["function"] == "latest":  # that of the latest line, even if it is null
        return found[-1]
    numbers = [each for each in found if each is not None]
    return sum(numbers) if value["function"] == "sum" else max(numbers, default=None)


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    found = pattern.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not simulated")
    return found
