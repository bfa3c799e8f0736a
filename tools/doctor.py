"""`make doctor STAGE=prod`: is everything there that a stage needs, and what to do if not.

It works before the first deployment, too: what can't be there yet is skipped. It writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from local.console import print_table, table, waiting
from tools.checks import (
    account,
    alarms,
    bucket,
    functions,
    ids,
    rights,
    runs,
    secret,
    server,
    session,
    tls,
)
from tools.checks.account import open_caller
from tools.checks.bucket import open_bucket
from tools.checks.check import Opened, Outcome, Report
from tools.checks.secret import open_credentials
from tools.checks.source import open_source
from tools.checks.stack import open_deployment
from tools.checks.stage import open_stage
from tools.stages import Aws, stage_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.checks.check import Check
    from tools.checks.stage import Stage

_FIRST = (Outcome.FAILED, Outcome.WARNING, Outcome.SKIPPED, Outcome.OK)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a stage; return 1 if a check failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.doctor", description=__doc__, parents=[stage_options()]
    )
    options = parser.parse_args(arguments)
    os.environ["AWS_DEFAULT_REGION"] = options.region
    with nullcontext() if options.json else waiting(f"Checking the stage {options.stage}"):
        report = examine(options.stage, options.region)
    if options.json:
        print(as_json(report))
    else:
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        print(f"Stage {options.stage} in {options.region}, {now}\n")
        print_table(table_lines(report))
        print("", summary(report), *remedies(report), sep="\n")
    return int(report.has_failed)


def examine(stage_name: str, region: str) -> Report:
    """Make every check of a stage."""
    report = Report(region)
    aws = Opened(Aws(region))
    caller = report.open("credentials", open_caller, aws)
    report.make_all(account.CHECKS, aws)
    stage = report.open("settings", partial(open_stage, stage_name), caller)
    examine_source(report, stage)
    landing = report.open("bucket", open_bucket, stage)
    report.make_all(bucket.CHECKS, landing)
    deployment = report.open("stack", open_deployment, stage)
    for module in (functions, runs, alarms):
        report.make_all(module.CHECKS, deployment)
    return report


def examine_source(report: Report, stage: Opened[Stage]) -> None:
    """Make every check of a stage's secret and its database."""
    report.make_all(secret.CHECKS, stage)
    credentials = report.open("secret form", open_credentials, stage)
    report.make_all(secret.OF_CREDENTIALS, credentials)
    report.make_all(tls.OF_STAGE, stage)
    source = report.open("database", open_source, credentials)
    try:
        for checks in (tls.OF_SOURCE, *(each.CHECKS for each in (session, server, rights, ids))):
            report.make_all(checks, source)
    finally:
        if source.subject:
            source.subject.close()


def as_json(report: Report) -> str:
    """Return an object with the `checks` by name, and whether one `failed`."""
    checks = {each.name: asdict(each) for each in report.checks}
    for each in checks.values():
        del each["name"]
    return json.dumps({"failed": report.has_failed, "checks": checks}, indent=1)


def table_lines(report: Report) -> list[str]:
    """Return the lines of a table to read."""
    rows = [(each.name, each.outcome, each.detail) for each in report.checks]
    return table(("check", "outcome", "found"), rows, (0, 1, 2))


def summary(report: Report) -> str:
    """Return how many checks ended in which way."""
    counts = {outcome: 0 for outcome in Outcome}
    for each in report.checks:
        counts[each.outcome] += 1
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())


def remedies(report: Report) -> list[str]:
    """Return what to do, for those checks first that failed."""
    found = [each for each in report.checks if each.remedy]
    return [_remedy(each) for each in sorted(found, key=lambda each: _FIRST.index(each.outcome))]


def _remedy(check: Check) -> str:
    return f"\n{check.name} ({check.outcome}): {check.detail}\n  {check.remedy}"


if __name__ == "__main__":
    sys.exit(main())
