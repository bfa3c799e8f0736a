"""The checks of `make doctor`, made in this process; what they find, by their names."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from functools import cache, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest.mock import patch

import boto3

from tests.helpers.oracle.untold import telling
from tools import doctor, stages
from tools.checks.account import open_caller
from tools.checks.check import Opened, Outcome, Report
from tools.checks.stage import open_stage
from tools.stages import Aws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.checks.check import Check

REGION = "eu-west-2"
_IN_REGION = f" --region {REGION}"
_COMMAND = re.compile(r"\baws [a-z0-9]+ [a-z-]+|\bnpx sls [a-z]+")
_STATEMENT = re.compile(r"(?:GRANT|ALTER|SELECT) [^;]*;")


class Checked(dict[str, "Check"]):
    """The checks of a stage, by their names.

    Each that is not fine must say what to do, and none may tell a secret.
    """

    def __init__(self, report: Report) -> None:
        super().__init__({each.name: each for each in report.checks})
        assert len(self) == len(report.checks)
        assert report.has_failed == (Outcome.FAILED in self.not_fine.values())
        assert [name for name, each in self.items() if not each.detail] == []
        assert [name for name in self.not_fine if not self[name].remedy] == []
        assert telling([doctor.as_json(report)]) == []

    @property
    def not_fine(self) -> dict[str, Outcome]:
        """The outcomes of those that warn or failed."""
        bad = {Outcome.WARNING, Outcome.FAILED}
        return {name: each.outcome for name, each in self.items() if each.outcome in bad}

    @property
    def skipped(self) -> dict[str, str]:
        """Why those were skipped that were."""
        return {k: each.detail for k, each in self.items() if each.outcome is Outcome.SKIPPED}


def checked(stage: str) -> Checked:
    """Check a stage."""
    with _kept_sessions():
        return Checked(doctor.examine(stage, REGION))


def checked_source(stage: str) -> Checked:
    """Check a stage's settings, its secret and its database."""
    report = Report(REGION)
    with _kept_sessions():
        caller = report.open("credentials", open_caller, Opened(Aws(REGION)))
        settings = report.open("settings", partial(open_stage, stage), caller)
        doctor.examine_source(report, settings)
    return Checked(report)


def assert_says(check: Check, found: str, remedy: str) -> None:
    """Assert that a check says what it found and what to do, in words like these.

    Its commands name the region, which the words leave out.
    """
    assert re.search(found, check.detail), check
    assert len(_COMMAND.findall(check.remedy)) == check.remedy.count(_IN_REGION), check
    assert re.search(remedy, check.remedy.replace(_IN_REGION, "")), check


def statements(check: Check) -> list[str]:
    """Return the SQL that a check says to run."""
    return _STATEMENT.findall(check.remedy)


@cache
def _session(region: str, _key: str | None) -> boto3.Session:
    return boto3.Session(region_name=region)


@contextmanager
def _kept_sessions() -> Iterator[None]:
    """Keep the session of each caller: a new one reads what AWS can do again, which is slow."""

    def kept(region_name: str) -> boto3.Session:
        return _session(region_name, os.environ.get("AWS_ACCESS_KEY_ID"))

    with patch.object(stages, "boto3", SimpleNamespace(Session=kept)):
        yield
