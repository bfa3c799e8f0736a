"""How `make doctor` judges what it finds, and how its report is made and read."""

from __future__ import annotations

import doctest
import importlib
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError, EndpointConnectionError

from shared.errors import ConfigError, SourceError
from shared.tables import Table
from tools import declared, doctor
from tools.checks import alarms, functions, ids, rights, runs, server, stack, tls
from tools.checks.account import judge_clock
from tools.checks.check import Opened, Outcome, Report, failed, ok, raised, skipped, warning
from tools.checks.facts import Facts
from tools.checks.ids import Room
from tools.checks.server import Limit

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
OK, WARNING, FAILED, SKIPPED = Outcome.OK, Outcome.WARNING, Outcome.FAILED, Outcome.SKIPPED


@pytest.mark.parametrize("path", sorted((ROOT / "tools").rglob("*.py")), ids=lambda path: path.stem)
def test_the_examples_are_true(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


# The report.


def refusal(code: str, operation: str = "GetBucketPolicy", message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


def raising(error):
    def look(_):
        raise error

    return look


def test_a_check_that_raises_hides_no_other():
    report = Report("eu-west-2")
    checks = {"a": raising(KeyError("x")), "b": lambda _: ok("fine")}
    report.make_all(checks, Opened("subject"))
    assert [(each.name, each.outcome) for each in report.checks] == [("a", FAILED), ("b", OK)]
    assert report.has_failed


@pytest.mark.parametrize(
    ("remedy", "said"),
    [
        (
            "Run: aws s3api put-bucket-versioning --bucket b, then npx sls deploy --stage s",
            "Run: aws s3api put-bucket-versioning --region r --bucket b, then "
            "npx sls deploy --region r --stage s",
        ),
        ("Log in to aws, and call make ingest", "Log in to aws, and call make ingest"),
    ],
)
def test_a_command_in_a_remedy_is_for_the_region_of_the_stage(remedy, said):
    report = Report("r")
    report.make_all({"a": lambda _: failed("x", remedy)}, Opened("subject"))
    assert report.checks[0].remedy == said


@pytest.mark.parametrize(
    ("found", "why_not"),
    [
        ((None, failed("broken", "repair it")), "see `gate`"),
        ((None, warning("odd", "wait")), "see `gate`"),
        ((None, skipped("in a VPC")), "in a VPC"),
        ((None, ok("free")), "not deployed yet"),
    ],
)
def test_what_can_not_be_opened_is_not_looked_at(found, why_not):
    report = Report("eu-west-2")
    opened = report.open("gate", lambda _: found, Opened("subject"))
    deeper = report.open("deeper", raising(AssertionError()), opened)
    report.make_all({"last": raising(AssertionError())}, deeper)
    assert [(each.outcome, each.detail) for each in report.checks[1:]] == [(SKIPPED, why_not)] * 2


def test_what_was_opened_is_looked_at_whatever_the_finding():
    report = Report("eu-west-2")
    opened = report.open("gate", lambda _: ("inside", failed("x", "y")), Opened("subject"))
    report.make_all({"next": ok}, opened)
    assert report.checks[1].detail == "inside"


@pytest.mark.parametrize(
    ("error", "finding"),
    [
        (
            refusal("AccessDenied"),
            skipped("s3:GetBucketPolicy is not allowed", "Allow s3:GetBucketPolicy to whoever"),
        ),
        (
            refusal("AccessDeniedException", "GetSecretValue", "Access to KMS is not allowed"),
            skipped("kms:Decrypt is not allowed", "Allow kms:Decrypt"),
        ),
        (
            refusal("403", "HeadBucket", "Forbidden"),
            skipped("s3:ListBucket is not allowed", "Allow s3:ListBucket"),
        ),
        (
            refusal("AccessDenied", "NewCall", "X is not authorized to perform: x:NewCall on y"),
            skipped("x:NewCall is not allowed", "Allow x:NewCall"),
        ),
        (refusal("Throttling"), failed("Throttling: no", "AWS refuses GetBucketPolicy: look up")),
        (
            EndpointConnectionError(endpoint_url="https://x"),
            failed('Could not connect to the endpoint URL: "https://x"', "Check the network"),
        ),
        (
            SourceError("It failed (SQLSTATE 1). Do this. Then that."),
            failed("It failed (SQLSTATE 1)", "Do this. Then that."),
        ),
        (ConfigError("Only this."), failed("Only this.", "The message says")),
        (KeyError("a value"), failed("Unexpected KeyError in test_doctor.py", "Please report it.")),
    ],
)
def test_an_error_is_a_finding_in_its_own_words(error, finding):
    with pytest.raises(type(error)) as caught:
        raise error
    found = raised(caught.value)
    assert found.outcome == finding.outcome
    assert found.detail.startswith(finding.detail)
    assert found.remedy.startswith(finding.remedy)
    assert "a value" not in "".join(found)


def test_a_denial_is_found_behind_an_error_of_ours():
    error = ConfigError("The report can't be read.")
    error.__cause__ = refusal("AccessDenied", "GetObject")
    assert raised(error) == skipped(
        "s3:GetObject is not allowed", "Allow s3:GetObject to whoever runs this."
    )


# How it is read.


@pytest.fixture
def report():
    made = Report("eu-west-2")
    checks = {
        "clock": lambda _: ok("right"),
        "stack": lambda _: skipped("not deployed yet", "Deployed there: dev."),
        "idle transactions": lambda _: warning("may stay", "Set a limit."),
        "secret": lambda _: failed("there is none", "Create it."),
        "layer": lambda _: skipped("not deployed yet"),
    }
    made.make_all(checks, Opened("subject"))
    return made


def test_people_read_a_table(report):
    assert doctor.table_lines(report)[:3] == [
        "check              outcome  found",
        "clock              ok       right",
        "stack              skipped  not deployed yet",
    ]
    assert doctor.summary(report) == "1 ok, 1 warning, 1 failed, 2 skipped"


def test_what_failed_is_told_first_with_what_to_do(report):
    assert doctor.remedies(report) == [
        "\nsecret (failed): there is none\n  Create it.",
        "\nidle transactions (warning): may stay\n  Set a limit.",
        "\nstack (skipped): not deployed yet\n  Deployed there: dev.",
    ]


def test_machines_read_the_checks_by_their_names(report):
    said = json.loads(doctor.as_json(report))
    assert said["failed"] is True
    assert said["checks"]["secret"] == {
        "outcome": "failed",
        "detail": "there is none",
        "remedy": "Create it.",
    }
    assert list(said["checks"])[:2] == ["clock", "stack"]


# serverless.yml.


def test_the_parameters_are_those_of_the_stage():
    params = yaml.safe_load((ROOT / "serverless.yml").read_text())["params"]
    found = declared.parameters("prod", "eu-west-1")
    assert set(found) == set(params["default"])
    assert found["bucketName"] == "prod-ingestion-bucket"
    assert found["databaseCaFile"] == "shared/rds-ca/eu-west-1.pem"
    assert found["logRetentionDays"] == str(params["prod"]["logRetentionDays"])


def test_the_variables_are_those_that_would_be_deployed():
    found = declared.variables("dev", "eu-west-2")
    assert set(found) == set(
        yaml.safe_load((ROOT / "services/environment.yml").read_text())["ingest"]
    )
    assert (found["BUCKET_NAME"], found["DB_SECRET_ID"]) == ("dev-ingestion-bucket", "dev/totesys")
    assert found["WITHOUT_CHANGES"] == ""


# The judgements.


@pytest.mark.parametrize(
    ("seconds", "outcome"),
    [(0, OK), (60, OK), (-60, OK), (61, WARNING), (-899, WARNING), (900, FAILED), (-7200, FAILED)],
)
def test_a_clock_may_be_a_minute_off_and_never_fifteen(seconds, outcome):
    assert judge_clock(seconds).outcome is outcome


@pytest.mark.parametrize(("seconds", "outcome"), [(60, OK), (-61, WARNING), (7200, WARNING)])
def test_the_clock_of_the_database_warns(seconds, outcome):
    assert server.judge_clock(seconds).outcome is outcome


@pytest.mark.parametrize(
    ("days", "outcome"),
    [([91], OK), ([-1, 91], OK), ([89, 900], WARNING), ([-1], FAILED), ([], FAILED)],
)
def test_authorities_expire(days, outcome):
    ends = [NOW + timedelta(days=each) for each in days]
    assert tls.judge_authorities("ca.pem", ends, NOW).outcome is outcome


@pytest.mark.parametrize(("days", "outcome"), [(91, OK), (89, WARNING)])
def test_a_certificate_expires(days, outcome):
    assert tls.judge_certificate(NOW + timedelta(days=days), NOW).outcome is outcome


def test_grants_that_are_missing_are_one_statement_each():
    facts = [
        Facts("payment", "r", is_readable=False),
        Facts("staff", "p", is_readable=False),
        Facts("design", None, schemas=["sales"]),
        Facts("address", None, schemas=["Old Ones", "sales"]),
        Facts("currency", None, closed_schemas=["closed"]),
        Facts("department", None),
        Facts("transaction", "v"),
    ]
    found = rights.judge_grants('"reader"', '"$user", public', facts)
    assert found.outcome is FAILED
    assert found.remedy == (
        'GRANT USAGE ON SCHEMA "closed" TO "reader"; '
        'ALTER ROLE "reader" SET search_path = "$user", public, "Old Ones", "sales"; '
        "Restore department, or take it out of shared/tables.py. "
        'GRANT SELECT ON "payment", "staff" TO "reader";'
    )


@pytest.mark.parametrize(("highest", "outcome"), [(0, OK), (80, OK), (81, WARNING), (100, WARNING)])
def test_ids_run_out(highest, outcome):
    found = ids.judge_room(
        [Room(Table("staff"), 1, 2**31 - 1), Room(Table("payment"), highest, 100)]
    )
    assert found.outcome is outcome
    if outcome is WARNING:
        assert found.detail == f"payment has used {highest}% of its ids"


@pytest.mark.parametrize(("used", "outcome"), [(97, OK), (98, WARNING), (100, WARNING)])
def test_sessions_run_out(used, outcome):
    limits = [Limit("the server", 1000, 5, "a"), Limit("the role x", 100, used, "b")]
    found = server.judge_connections(limits)
    assert found.outcome is outcome
    assert found.remedy == ("" if outcome is OK else "b")


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"])
def test_a_stack_that_is_complete(status):
    assert stack.judge_stack(status, "prod").outcome is OK
    assert stack.is_at_work(status)


@pytest.mark.parametrize("status", ["UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_IN_PROGRESS"])
def test_a_stack_that_is_about_to_be_complete(status):
    assert stack.judge_stack(status, "prod").outcome is WARNING
    assert stack.is_at_work(status)


@pytest.mark.parametrize("status", ["IMPORT_ROLLBACK_FAILED", "SOMETHING_NEW"])
def test_a_stack_of_another_status_has_a_remedy(status):
    found = stack.judge_stack(status, "prod")
    assert found.outcome is FAILED
    assert "describe-stack-events --stack-name totesys-ingestion-prod" in found.remedy


def test_the_settings_of_a_function_that_differ_are_named_without_their_values():
    vpc = {"SubnetIds": ["a", "b"], "SecurityGroupIds": ["c"]}
    deployed = {
        "Runtime": "python3.13",
        "Environment": {"Variables": {"A": "1", "B": "2"}},
        "VpcConfig": vpc,
    }
    same = deployed | {"VpcConfig": {"SubnetIds": ["b", "a"], "SecurityGroupIds": ["c"]}}
    other = {"Runtime": "python3.12", "Environment": {"Variables": {"B": "3", "C": "4"}}}
    assert list(functions.differences(deployed, same)) == []
    assert list(functions.differences(deployed, other)) == [
        *("Runtime", "A", "B", "C", "SubnetIds", "SecurityGroupIds")
    ]


def alarm(name: str, *actions: str, enabled: bool = True, **more: Any) -> dict[str, Any]:
    return {"AlarmName": name, "AlarmActions": actions, "ActionsEnabled": enabled} | more


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([alarm("a", "topic"), alarm("b", "x", "topic")], []),
        ([alarm("a")], ["nobody hears of a"]),
        ([alarm("a", "other")], ["nobody hears of a"]),
        ([alarm("a"), alarm("b", "topic")], ["nobody hears of a"]),
        ([alarm("a", "topic", enabled=False)], ["the actions of a are disabled"]),
    ],
)
def test_an_alarm_is_heard_by_its_own_actions(found, said):
    judged = alarms.judge_actions(found, ["topic"])
    assert judged.outcome is (FAILED if said else OK)
    assert [each for each in judged.detail.split("; ") if said] == said


@pytest.mark.parametrize(
    ("state", "hours", "outcome"),
    [
        ("OK", 900, OK),
        ("INSUFFICIENT_DATA", 23, OK),
        ("INSUFFICIENT_DATA", 25, WARNING),
        ("ALARM", 0, FAILED),
    ],
)
def test_an_alarm_without_data_is_fine_while_it_is_new(state, hours, outcome):
    since = NOW - timedelta(hours=hours)
    found = [alarm("a", StateValue=state, StateUpdatedTimestamp=since, AlarmDescription="Do it.")]
    assert alarms.judge_states(found, NOW).outcome is outcome


def test_some_who_have_confirmed_do_not_hide_one_who_has_not():
    found = [
        {"Endpoint": name, "SubscriptionArn": arn, "TopicArn": "t", "Protocol": "email"}
        for name, arn in (("a@b.c", "arn:aws:sns:x"), ("d@e.f", "PendingConfirmation"))
    ]
    assert alarms.judge_subscriptions(found, "prod").detail.startswith("d@e.f has not confirmed")
    assert alarms.judge_subscriptions(found[:1], "prod") == ok("confirmed by a@b.c")


@pytest.mark.parametrize(
    ("status", "is_late", "outcome"),
    [
        ("SUCCEEDED", False, OK),
        ("SUCCEEDED", True, FAILED),
        ("TIMED_OUT", False, FAILED),
        ("ABORTED", True, FAILED),
    ],
)
def test_the_last_execution_must_have_succeeded_and_lately(status, is_late, outcome):
    found = {"status": status, "stopDate": NOW - timedelta(minutes=31)}
    judged = runs.judge_execution(found, NOW, is_late=is_late)
    assert judged.outcome is outcome
    assert judged.detail.startswith(f"{status} 31 minutes ago")


@pytest.mark.parametrize("cause", ['{"errorMessage": "Do this.", "errorType": "X"}', "Do this."])
def test_what_a_failed_execution_says_is_what_to_do(cause):
    found = {"status": "FAILED", "stopDate": NOW, "error": "X", "cause": cause}
    assert runs.judge_execution(found, NOW, is_late=False).remedy == "Do this."


def report_of(day: str, missing: int = 0, broken: int = 0, **not_compared: str) -> dict[str, Any]:
    table = {"missing": missing, "broken_objects": broken}
    return {"date": day, "tables": {"payment": table}, "failed": not_compared}


@pytest.mark.parametrize(
    ("report", "is_due", "said"),
    [
        (report_of("2026-11-27"), True, ""),
        (report_of("2026-11-26"), True, ""),
        (report_of("2026-11-25"), True, "the last report is 2 days old"),
        (report_of("2026-11-25"), False, ""),
        (report_of("2026-11-27", missing=1234), True, "1,234 rows missing in payment"),
        (report_of("2026-11-27", broken=2), True, "2 objects broken in payment"),
        (report_of("2026-11-27", staff="SourceError: no."), True, "staff was not compared"),
    ],
)
def test_a_report_must_be_of_last_night_and_have_found_nothing(report, is_due, said):
    judged = runs.judge_report(report, "reconcile/x.json", date(2026, 11, 27), is_due=is_due)
    assert judged.outcome is (FAILED if said else OK)
    assert judged.detail.startswith(said)


# Before anything has run, and where nothing runs by itself.


class Stage:
    """A stage with as much as a judgement asks for."""

    name = "prod"


def deployment(hours: float, state: str = "ENABLED") -> stack.Deployment:
    rule = stack.Resource("AWS::Events::Rule", "rule", {"State": state})
    age: Any = timedelta(hours=hours)
    return stack.Deployment(Stage(), {"Rule": rule}, NOW, age)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (deployment(0.4), SKIPPED),
        (deployment(0.6), FAILED),
        (deployment(0.6, "DISABLED"), SKIPPED),
    ],
)
def test_a_new_stage_has_not_run_yet(made, outcome):
    assert runs.none_yet(made, "execution", runs.LATE, "0 running").outcome is outcome


def test_a_stage_that_was_deployed_without_schedules_says_so():
    found = runs.schedules(deployment(9, "DISABLED"))
    assert found.outcome is WARNING
    assert "scheduleEnabled" in found.remedy
