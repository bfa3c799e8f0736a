"""What a check finds, and a report of many checks: one that raises an error hides no other."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from tools.checks.errors import is_denied, said_by
from tools.checks.permissions import action_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


# The commands of AWS and of the framework, up to where their options begin.
_COMMAND = re.compile(r"\baws [a-z0-9]+ [a-z0-9-]+|\bnpx sls [a-z]+")


class Outcome(StrEnum):
    """How a check ended; only `FAILED` makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(NamedTuple):
    """What a check found, and what to do about it; nothing if it is fine."""

    outcome: Outcome
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A check that was made.

    Attributes:
        name: what was checked; no two checks of a report have the same name.
        outcome: how it ended.
        detail: what was found.
        remedy: what to do; empty if there is nothing to do.
    """

    name: str
    outcome: Outcome
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Opened[T]:
    """What further checks look at; if it is None, `why_not` is the reason."""

    subject: T | None
    why_not: str = ""


@dataclass(slots=True)
class Report:
    """The checks that were made so far, in their order.

    Attributes:
        region: of the stage; each command in a remedy names it.
        checks: the checks.
    """

    region: str
    checks: list[Check] = field(default_factory=list)

    @property
    def has_failed(self) -> bool:
        """Whether one of the checks failed."""
        return any(each.outcome is Outcome.FAILED for each in self.checks)

    def open[P, T](
        self, name: str, look: Callable[[P], tuple[T | None, Finding]], at: Opened[P]
    ) -> Opened[T]:
        """Make a check that also opens what further checks look at.

        Args:
            name: of the check.
            look: opens it; None if that can't be.
            at: what it is opened from; without it, the check is skipped.
        """
        found: list[T | None] = []

        def judge(parent: P) -> Finding:
            subject, finding = look(parent)
            found.append(subject)
            return finding

        made = self._make(name, judge, at)
        return Opened(found[0] if found else None, _why_not(made))

    def make_all[P](self, checks: Mapping[str, Callable[[P], Finding]], at: Opened[P]) -> None:
        """Make checks of the same subject; without it, they are skipped."""
        for name, judge in checks.items():
            self._make(name, judge, at)

    def _make[P](self, name: str, judge: Callable[[P], Finding], at: Opened[P]) -> Check:
        if at.subject is None:
            finding = skipped(at.why_not)
        else:
            try:
                finding = judge(at.subject)
            except Exception as error:  # noqa: BLE001 - it is the finding, whatever it is
                finding = raised(error)
        outcome, detail, remedy = finding
        made = Check(name, outcome, detail, _COMMAND.sub(rf"\g<0> --region {self.region}", remedy))
        self.checks.append(made)
        return made


def _why_not(made: Check) -> str:
    """Return why there is nothing to look at; what is fine without it will be deployed."""
    reasons = {Outcome.SKIPPED: made.detail, Outcome.OK: "not deployed yet"}
    return reasons.get(made.outcome, f"see `{made.name}`")


def ok(detail: str) -> Finding:
    """Return that it is as it must be."""
    return Finding(Outcome.OK, detail)


def warning(detail: str, remedy: str) -> Finding:
    """Return that it works, but should not stay as it is."""
    return Finding(Outcome.WARNING, detail, remedy)


def failed(detail: str, remedy: str) -> Finding:
    """Return that it is not as it must be."""
    return Finding(Outcome.FAILED, detail, remedy)


def skipped(reason: str, remedy: str = "") -> Finding:
    """Return that it could not be checked."""
    return Finding(Outcome.SKIPPED, reason, remedy)


def unless(
    faults: Mapping[str, str], fine: str, otherwise: Callable[[str, str], Finding] = failed
) -> Finding:
    """Return all faults as one finding, with each remedy once; `fine` if there are none.

    >>> unless({}, "11 tables").detail
    '11 tables'
    >>> unless({"a is closed": "Open it.", "b is closed": "Open it."}, "all are open")[1:]
    ('a is closed; b is closed', 'Open it.')
    """
    if not faults:
        return ok(fine)
    return otherwise("; ".join(faults), " ".join(dict.fromkeys(faults.values())))


def raised(error: Exception) -> Finding:
    """Return what an error means for the check that raised it.

    Without the permission to look, nothing is known: the check is skipped.
    """
    if is_denied(error):
        action = action_of(error)
        return skipped(f"{action} is not allowed", f"Allow {action} to whoever runs this.")
    return failed(*said_by(error))
