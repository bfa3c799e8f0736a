"""Log lines as the alarms expect them."""

from __future__ import annotations

import pytest

from shared import errors, telemetry
from shared.errors import (
    ConfigError,
    EventError,
    IngestionError,
    LandingError,
    LandingUnavailableError,
    SourceError,
    SourceUnavailableError,
    TransientIngestionError,
)
from tests.helpers.oracle.cloudwatch import metric_filters


@pytest.mark.parametrize(
    ("error", "level", "alarm"),
    [
        (SourceUnavailableError("gone"), "WARNING", "database-unavailable"),
        (LandingUnavailableError("busy"), "WARNING", "aws-unavailable"),
        (SourceError("refused"), "ERROR", "database-refused"),
        (LandingError("refused"), "ERROR", "aws-refused"),
        (ConfigError("wrong"), "ERROR", "aws-refused"),
        (EventError("wrong"), "ERROR", None),
        (ValueError("whatever"), "ERROR", None),
        (IngestionError({"staff": SourceError("refused")}), "ERROR", "executions-failed"),
        (
            TransientIngestionError({"staff": LandingUnavailableError("busy")}),
            "WARNING",
            "aws-unavailable",
        ),
    ],
)
def test_a_line_says_how_bad_it_is_and_names_its_alarm(error, level, alarm, caplog):
    telemetry.failure("It failed", error, table="staff")
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == (level, "It failed")
    said = vars(record)
    assert (said["error"], said["reason"]) == (type(error).__name__, str(error))
    assert (said["table"], said.get("alarm")) == ("staff", alarm)


def test_every_alarm_that_an_error_names_exists():
    named = {getattr(each, "alarm", None) for each in vars(errors).values()} - {None}
    counted = {
        made["MetricName"].removeprefix("${sls:stage}-")
        for each in metric_filters().values()
        for made in each["MetricTransformations"]
    }
    # These are told by metrics of AWS.
    assert named - counted == {"executions-failed", "load-failed", "reconcile-failed"}
