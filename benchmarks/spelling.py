"""When what was written is a value of PostgreSQL, however it is spelled.

Numbers must have all their digits: 3.1 is not the numeric 3.10. Of the many exact spellings of the
other types, those that racers use are known: a blank for the T of a timestamp, a year before Christ
as ISO 8601 counts it, base64 or hexadecimal bytes, JSON or a number in a text.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from decimal import Decimal, InvalidOperation
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Number(str):
    """A number as it is written in JSON; as a text of its own it is not taken for a string."""

    __slots__ = ()


def is_same(type_: str, said: Any, found: Any) -> bool:
    """Tell whether a member is a value.

    Args:
        type_: PostgreSQL's name of the type.
        said: the value as PostgreSQL spells it, or its elements, if it is an array; None is NULL.
        found: the member; its numbers are `Number`s.

    >>> is_same("numeric", "3.10", Number("3.1")), is_same("real", "0.1", Number("1e-1"))
    (False, True)
    """
    if said is None or found is None:
        return said is found
    try:
        if type_.endswith("[]"):
            return _is_same_array(type_.removesuffix("[]"), said, found)
        return _KINDS.get(type_, _is_same_text)(said, found)
    except (ValueError, TypeError, InvalidOperation, OverflowError):
        return False


def parse(text: str | bytes) -> Any:
    """Return JSON with its numbers as `Number`s.

    Raises:
        ValueError: it is not JSON.
    """
    return json.loads(text, parse_float=Number, parse_int=Number, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}.")


def _is_same_array(element: str, said: Any, found: Any) -> bool:
    if isinstance(found, str):  # JSON in a text
        found = parse(found)
    if not (isinstance(said, list) and isinstance(found, list)):
        return not isinstance(said, list) and is_same(element, said, found)
    pairs = zip(said, found, strict=False)
    return len(said) == len(found) and all(
        (said is None and found is None)
        or (_is_same_array if isinstance(said, list) else is_same)(element, said, found)
        for said, found in pairs
    )


def _is_same_text(said: str, found: Any) -> bool:
    return type(found) is str and said == found


def _is_same_numeric(said: str, found: Any) -> bool:
    """The sign, each digit and the scale; `Infinity` and `NaN` by their names."""
    return Decimal(said).as_tuple() == Decimal(found).as_tuple()


def _is_same_integer(said: str, found: Any) -> bool:
    return int(said) == int(found)


def _is_same_double(said: str, found: Any) -> bool:
    return struct.pack("d", float(said)) == struct.pack("d", float(found))


def _is_same_real(said: str, found: Any) -> bool:
    return struct.pack("f", float(said)) == struct.pack("f", float(found))


def _is_same_boolean(said: str, found: Any) -> bool:
    return found is (said == "true")


def _is_same_moment(said: str, found: Any) -> bool:
    return _moment(said) == _moment(found)


def _moment(text: str) -> list[str]:
    """Return a timestamp, date or time in one spelling: its parts, and BC behind them."""
    if year := re.match(r"-(\d+)(?=-)", text):  # as ISO 8601 counts: there was a year 0
        text = f"{int(year[1]) + 1:04}{text[year.end() :]} BC"
    found = [_shortest(part) for part in text.replace("T", " ").lstrip("+").split()]
    parts = [part for part in found if part not in _BC]
    if len(parts) > 1 and parts[1] == "00:00:00":  # a date as a timestamp
        del parts[1]
    return parts + ["BC"] * any(part in _BC for part in found)


def _shortest(part: str) -> str:
    """Return a part without UTC and without zeros behind the last digit of a second."""
    part = re.sub(r"(Z|\+00(:00)?)$", "", part)
    return part.rstrip("0").rstrip(".") if "." in part else part


def _is_same_interval(said: str, found: Any) -> bool:
    return _interval(said) == _interval(found)


_BC: Final = {"BC", "(BC)"}
_MONTHS: Final = {"year": 12, "mon": 1, "day": 0}


def _interval(text: str) -> tuple[int, int, Decimal]:
    """Return months, days and seconds, which PostgreSQL keeps apart."""
    found = [(int(number), unit) for number, unit in re.findall(r"(-?\d+) (year|mon|day)", text)]
    clock = re.search(r"([-+]?)(\d+):(\d+):([\d.]+)$", text)
    if not found and not clock:
        raise ValueError("not an interval")
    seconds = Decimal(0)
    if clock:
        sign, hours, minutes, rest = clock.groups()
        seconds = Decimal(f"{sign}1") * (int(hours) * 3600 + int(minutes) * 60 + Decimal(rest))
    months = sum(number * _MONTHS[unit] for number, unit in found)
    return months, sum(number for number, unit in found if unit == "day"), seconds


def _is_same_bytes(said: str, found: Any) -> bool:
    """Hexadecimal as PostgreSQL has it, base64, or with what is not ASCII as DuckDB has it."""
    expected = bytes.fromhex(said.removeprefix(r"\x"))
    return found in (said, base64.b64encode(expected).decode(), _as_duckdb(expected))


def _as_duckdb(value: bytes) -> str:
    return "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in "\\'\"" else f"\\x{byte:02X}"
        for byte in value
    )


def _is_same_json(said: str, found: Any) -> bool:
    expected = parse(said)
    if _json(found) == _json(expected):
        return True
    return type(found) is str and bool(_json(parse(found)) == _json(expected))


def _json(value: Any) -> Any:
    """Return it with its numbers as all their digits, and told from texts."""
    if isinstance(value, Number):
        return Decimal(value).as_tuple()
    if isinstance(value, dict):
        return {name: _json(member) for name, member in value.items()}
    return [_json(each) for each in value] if isinstance(value, list) else value


def _is_same_money(said: str, found: Any) -> bool:
    return _is_same_numeric(*(re.sub(r"[$,]", "", each) for each in (said, found)))


def _is_same_address(said: str, found: Any) -> bool:
    return ip_interface(said) == ip_interface(found)


_KINDS: Final[Mapping[str, Callable[[str, Any], bool]]] = {
    "numeric": _is_same_numeric,
    "numeric(10,2)": _is_same_numeric,
    "double precision": _is_same_double,
    "real": _is_same_real,
    "integer": _is_same_integer,
    "bigint": _is_same_integer,
    "boolean": _is_same_boolean,
    "timestamp": _is_same_moment,
    "timestamptz": _is_same_moment,
    "date": _is_same_moment,
    "time": _is_same_moment,
    "interval": _is_same_interval,
    "bytea": _is_same_bytes,
    "json": _is_same_json,
    "jsonb": _is_same_json,
    "money": _is_same_money,
    "inet": _is_same_address,
}
