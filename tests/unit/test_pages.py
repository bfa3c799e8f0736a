"""What README and the pages of docs/ say is true of the code."""

from __future__ import annotations

import dataclasses
import json
import re
from importlib import import_module

import pytest
import yaml

from benchmarks import cost, race
from benchmarks.odd_values import ODD
from services.ingestion.summary import TableSummary
from shared import errors
from shared.bucket import keys
from shared.tables import Table
from tests.helpers import next_service
from tests.helpers.oracle.pages import (
    PAGES,
    ROOT,
    anchors,
    blocks,
    first_cells,
    minutes_to_fire,
    page,
    section,
)
from tools.checks.permissions import ACTIONS

README = page("README.md")
CONFIGURATION = page("docs/configuration.md")
CONSUMING = page("docs/consuming.md")
DEPLOYING = page("docs/deploying.md")
OPERATING = page("docs/operating.md")
PERFORMANCE = page("docs/performance.md")

every_page = pytest.mark.parametrize("name", PAGES)


def loader():
    """YAML with CloudFormation's short tags read as plain values."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, tag, node: None)
    return Loader


def read_yaml(path: str):
    return yaml.load((ROOT / path).read_text(), Loader=loader())


def params():
    return read_yaml("serverless.yml")["params"]


def exists(path: str) -> bool:
    """Whether a path is there; of a file named without its folder, whether there is one."""
    if (ROOT / path).exists():
        return True
    if "/" in path:
        return False
    folders = (ROOT / folder for folder in ("services", "shared", "docs"))
    return any(list(folder.rglob(path)) for folder in folders)


# Words.


def test_readme_is_read_in_five_minutes():
    assert len(README.split()) <= 1200
    assert len(README.splitlines()) <= 115


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("docs/")])
def test_a_page_begins_with_what_you_can_do_after_it(name):
    title, begin, *_ = page(name).split("\n\n")
    assert title.startswith("# ")
    assert begin.startswith("After reading this page you ")


@every_page
@pytest.mark.parametrize(
    "word",
    [
        r"mend\w*",
        r"mails?",  # an alarm sends an email
        "go(es)? off",  # of an alarm it means that it fires
        "the reconcile",  # the function is `reconcile`, what it does is a reconciliation
        "as of a",
        "of ours",
    ],
)
def test_a_page_says_things_in_the_fields_own_words(name, word):
    said = re.search(rf"\b{word}\b(?!`)", page(name))
    assert not said, said


# What pages name.


@every_page
def test_every_make_command_is_a_target(name):
    lines = re.findall(r"^([a-z0-9 -]+): ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = " ".join(lines).split()
    named = [
        each
        for words in re.findall(r"(?:^|`)make((?: [a-z][a-z0-9-]*)+)", page(name), re.MULTILINE)
        for each in words.split()
    ]
    assert set(named) <= set(targets)


@pytest.mark.parametrize("name", [*PAGES, "resources/alarms.yml", "local/serve.py"])
def test_nobody_is_told_to_call_a_deployed_stage_in_another_way(name):
    """`sls invoke` gives up before a call ends, and calls again; `sls invoke local` is fine."""
    assert not re.search(r"sls invoke (?!local)-", page(name))
    assert "lambda invoke" not in page(name)


def test_make_is_named_where_it_is_looked_for():
    assert "make demo" in README
    for text in (README, DEPLOYING, OPERATING):
        assert "\nmake ingest STAGE=prod" in text or "`make ingest STAGE=prod`" in text
    assert "make status" in OPERATING
    assert "make doctor" in OPERATING
    assert "make bench" in PERFORMANCE


@every_page
def test_every_function_that_is_called_is_deployed(name):
    functions = {
        each
        for service in ("ingestion", "reconciliation")
        for each in read_yaml(f"services/{service}/functions.yml")
    }
    assert set(re.findall(r"sls \w+(?: local)? -f (\w+)", page(name))) <= functions


@every_page
def test_every_path_exists(name):
    text = re.sub(r"^```.*?^```", "", page(name), flags=re.DOTALL | re.MULTILINE)
    folders = "services|shared|tools|local|tests|docs|resources|layers|benchmarks"
    paths = re.findall(rf"`((?:(?:{folders})/[\w./-]*)|[\w-]+\.(?:py|yml|js))`", text)
    known = next_service.created() if name == next_service.PAGE else set()
    assert [path for path in paths if path not in known and not exists(path)] == []


def test_the_picture_names_files_that_exist():
    [picture] = blocks(page("docs/architecture.md"), "")
    found = re.findall(r"[\w/]+\.py|(?:services|shared)/\w+/", picture)
    assert len(found) >= 10
    assert [path for path in found if not exists(path)] == []


@every_page
def test_every_link_leads_somewhere(name):
    here = (ROOT / name).parent
    for target in re.findall(r"\]\(([^)]+)\)", page(name)):
        path, _, anchor = target.partition("#")
        file = here / path if path else ROOT / name
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


def test_every_page_can_be_reached_from_readme():
    linked = set(re.findall(r"\]\(([\w/.-]+)", README))
    assert set(PAGES) - {"README.md"} <= linked


# Keys and lines.


@pytest.mark.parametrize("text", [README, CONSUMING], ids=["README", "consuming"])
def test_the_keys_are_those_that_the_service_makes(text):
    found = re.findall(r"(?<![\w-])(?:prod-ingestion-bucket/)?((?:\w+/)+\d[\w-]*\.jsonl?)", text)
    known = {
        "changes": keys.parse_change_key,
        "claims": keys.parse_claim_key,
        "reconcile": lambda key: key == keys.format_report_key("2024-11-11"),
    }
    assert {key.split("/")[0] for key in found} >= {"address", "changes", "claims", "reconcile"}
    for key in found:
        assert known.get(key.split("/")[0], keys.is_data_key)(key), key
    assert keys.format_latest_key(Table("address")) in text


def test_the_landed_line_is_a_line_of_json():
    [line] = re.findall(r'^\{"sales_order_id".*$', README, re.MULTILINE)
    assert json.loads(line)["unit_price"] == 3.94


def test_the_next_services_trigger_is_an_event_of_our_state_machine():
    [text] = blocks(CONSUMING, "yaml")
    pattern = yaml.safe_load(text)["functions"]["warehouse"]["events"][0]["eventBridge"]["pattern"]
    assert pattern["source"] == ["aws.states"]
    assert pattern["detail-type"] == ["Step Functions Execution Status Change"]
    machine = read_yaml("serverless.yml")["stepFunctions"]["stateMachines"]["ingestion"]
    assert pattern["detail"]["stateMachineArn"] == [{"Ref": machine["id"]}]
    assert set(pattern["detail"]["status"]) == {"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"}
    complete = yaml.safe_load(next_service.text_of("services/warehouse/functions.yml"))
    assert complete["warehouse"]["events"] == [{"eventBridge": {"pattern": pattern}}]


# Configuration.


def test_the_parameters_are_those_of_serverless_yml_each_described_once():
    default = params()["default"]
    described = [cell for name in PAGES for cell in first_cells(page(name)) if cell in default]
    assert sorted(described) == sorted(default)
    assert first_cells(section(CONFIGURATION, "Parameters")) == described


def test_readme_says_within_how_many_days_all_values_are_proved():
    [days] = re.findall(r"older ones in turn, each within (\d+) days", " ".join(README.split()))
    assert days == str(params()["default"]["proofDays"])


def test_the_defaults_are_those_of_serverless_yml():
    default, numbers = params()["default"], 0
    for line in section(CONFIGURATION, "Parameters").splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if cells[0] in default and cells[1].isdigit():
            assert str(default[cells[0]]) == cells[1], cells[0]
            numbers += 1
    assert numbers == 9
    for stage in ("prod", "dev"):
        days = params()[stage]["logRetentionDays"]
        assert f"`{days}` in {stage}" in CONFIGURATION


@every_page
def test_only_parameters_that_exist_are_set(name):
    named = set(re.findall(r'--param="(\w+)=', page(name))) - {"name"}
    assert named <= set(params()["default"])


@pytest.mark.parametrize(
    "text", [README, CONFIGURATION, DEPLOYING], ids=["README", "configuration", "deploying"]
)
def test_parameters_are_put_where_the_next_deployment_finds_them(text):
    [line] = re.findall(r"\bprod: \{.*?\}", text)
    added = yaml.safe_load(line)["prod"]
    assert set(added) <= set(params()["default"])
    assert "alarmEmail" in added
    assert params()["prod"].items() <= added.items()  # the line takes the place of the other one
    assert not re.findall(r'--param="(?!name=)', text)


def test_the_fixed_values_are_those_that_are_deployed():
    reconcile = read_yaml("services/reconciliation/functions.yml")["reconcile"]
    said = section(CONFIGURATION, "Fixed values")
    assert f"{reconcile['memorySize']} MB, {reconcile['timeout']} s" in said
    [schedule] = reconcile["events"]
    assert schedule["schedule"]["rate"] == "cron(15 2 * * ? *)"
    assert "every night at 02:15 UTC" in said
    assert "every night at 02:15 UTC" in OPERATING.replace("\n", " ").replace("Every", "every")
    [tick] = read_yaml("serverless.yml")["stepFunctions"]["stateMachines"]["ingestion"]["events"]
    assert tick["schedule"]["rate"] == "rate(10 minutes)"
    assert "| every 10 minutes |" in said


def test_an_execution_ends_before_the_next_and_after_the_last_call():
    default = params()["default"]
    limit = read_yaml("services/ingestion/state-machine.yml")["TimeoutSeconds"]
    assert f"may take {limit} seconds" in CONFIGURATION
    assert int(default["backlogSeconds"]) + default["timeoutSeconds"] < limit


# Deploying.


@every_page
def test_every_command_of_aws_names_the_region(name):
    """A profile may have another one, or none; IAM and STS are the same in all."""
    commands = re.findall(r"^aws (?:[^\n]*\\\n)*[^\n]*$", page(name), re.MULTILINE)
    assert commands or name not in ("README.md", "docs/deploying.md", "docs/operating.md")
    for command in commands:
        assert "--region eu-west-2" in command or command.startswith("aws iam "), command


def test_the_workflow_uses_pinned_actions_and_no_key():
    [text] = blocks(section(DEPLOYING, "Deploy from GitHub"), "yaml")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"id-token": "write", "contents": "read"}
    assert "secrets." not in text
    used = set(re.findall(r"uses: (\S+ # \S+)", text))
    assert len(used) == text.count("uses:") == 4
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", each) for each in used)
    ci = (ROOT / ".github/workflows/ci.yml").read_text()
    assert {each for each in used if not each.startswith("aws-actions/")} <= set(
        re.findall(r"uses: (\S+ # \S+)", ci)
    )
    job = workflow["jobs"]["prod"]
    trusted = (ROOT / "resources/deployer/trust.json").read_text()
    assert f":environment:{job['environment']}" in trusted


def test_as_many_deployments_are_kept_as_it_says():
    bucket = read_yaml("serverless.yml")["provider"]["deploymentBucket"]
    kept = f"The last {bucket['maxPreviousDeploymentArtifacts']} deployments are kept"
    assert kept in section(DEPLOYING, "Roll back").replace("\n", " ")


def test_the_page_that_removes_the_logs_names_each_of_them():
    groups = [
        each["Properties"]["LogGroupName"]
        for each in read_yaml("resources/logs.yml").values()
        if each["Type"] == "AWS::Logs::LogGroup"
    ]
    names = [
        name.replace("${self:service}", "totesys-ingestion").replace("${sls:stage}", "prod")
        for name in groups
    ]
    said = re.findall(r"delete-log-group .* --log-group-name (\S+)", DEPLOYING)
    assert sorted(said) == sorted(names)


@pytest.mark.parametrize(
    ("text", "role"),
    [(section(README, "Deploy"), "Create a read-only role"), (DEPLOYING, "CREATE ROLE")],
    ids=["README", "deploying"],
)
def test_role_and_secret_come_before_the_command_that_needs_them(text, role):
    steps = [role, "secretsmanager create-secret", "sls deploy", "onfirm the subscription"]
    places = [text.index(step) for step in steps]
    assert places == sorted(places)


# Operating.


def test_the_alarms_are_those_that_are_deployed():
    alarms = read_yaml("resources/alarms.yml")
    names = [
        alarm["Properties"]["AlarmName"].split("${sls:stage}-")[1]
        for alarm in alarms.values()
        if alarm.get("Type") == "AWS::CloudWatch::Alarm"
    ]
    table = section(OPERATING, "Alarms").split("### ")[0]
    assert sorted(first_cells(table)) == sorted(names)
    assert set(minutes_to_fire()) == set(names)


def test_the_checks_are_those_that_are_made_and_so_are_the_permissions():
    names = {"credentials", "settings", "secret form", "database", "bucket", "stack"}
    for path in (ROOT / "tools/checks").glob("*.py"):
        module = vars(import_module(f"tools.checks.{path.stem}"))
        names.update(
            *(
                module.get(each, ())
                for each in ("CHECKS", "OF_STAGE", "OF_CREDENTIALS", "OF_SOURCE")
            )
        )
    listed, allowed = section(OPERATING, "Check the preconditions").split("Whoever runs it needs")
    assert sorted(set(first_cells(listed)) - {"JSON=1"}) == sorted(names)
    assert set(re.findall(r"`([a-z0-9]+:\w+)`", allowed)) == set(ACTIONS.values())


def test_the_preconditions_are_checked_before_the_deployment_and_after_it():
    rest = DEPLOYING
    for step in ("make doctor", "sls deploy --stage prod", "make status", "make doctor"):
        _, found, rest = rest.partition(step)
        assert found


def test_the_errors_are_those_of_the_service():
    classes = {
        each.__name__: each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.PipelineError)
    }
    table = section(OPERATING, "Retries")
    rows = re.findall(r"^\| `(\w+)` \|.*\| (yes|no) \|$", table, re.MULTILINE)
    assert {name: said == "yes" for name, said in rows} == {
        name: each.transient for name, each in classes.items()
    }


def test_transient_errors_are_retried_as_often_as_it_says():
    state = read_yaml("services/ingestion/state-machine.yml")["States"]["Ingest"]
    ours, of_lambda = (retry["MaxAttempts"] for retry in state["Retry"])
    said = section(OPERATING, "Retries")
    assert f"retried {ours} times, errors of Lambda itself {of_lambda} times" in said


def test_the_figures_are_those_of_the_log_lines():
    metrics = section(OPERATING, "Metrics")
    assert "`Table ingested`" in metrics
    fields = {field.name for field in dataclasses.fields(TableSummary)}
    assert len(fields & set(re.findall(r"`(\w+)`", metrics))) >= 7
    [example] = re.findall(r"`prod-([\w-]+)`", metrics)
    assert example in minutes_to_fire()


# Performance.

FOUR_FIGURES = re.compile(r"^\|[^|]+(?:\| [\d.]+ ){4}\|$", re.MULTILINE)
FOUND = json.loads(cost.RESULTS.read_text())


def stages(**changed):
    memory = params()["default"]["memoryMegabytes"]
    return [cost.Stage(memory, month=month, **changed) for month in cost.MONTHS]


def months(**changed):
    """The bills of the months that the page names."""
    return [cost.bill(FOUND, stage) for stage in stages(**changed)]


def test_the_race_is_the_one_that_was_measured():
    said, racers = section(PERFORMANCE, "The race"), FOUND["race"]["racers"]
    assert FOUND["race"]["rows"] == 1_000_000
    assert "\n".join(race.table(FOUND["race"])) in said
    values = racers["ours"]["odd"]["values"]
    assert values == sum(len(each) + 1 for each in ODD.values())
    times = racers["ours"]["seconds"] / racers["duckdb"]["seconds"]
    server = racers["ours"]["server_seconds"] / racers["copy"]["server_seconds"]
    words = " ".join(said.split())
    assert f"takes {times:.2f} times DuckDB's time" in words
    assert f"{server:.2f} times the processor time of a plain COPY" in words
    assert f"of {values} values" in words


def test_only_who_is_exact_is_called_exact():
    exact = {key for key, each in FOUND["race"]["racers"].items() if race.verdict(each) == "exact"}
    assert exact == {"ours", "bare"}


def test_the_peers_are_those_that_are_pinned():
    pinned = (ROOT / "benchmarks/peers/requirements.txt").read_text()
    said = section(PERFORMANCE, "How to measure")
    peers = {"DuckDB": "duckdb", "ConnectorX": "connectorx", "ADBC": "adbc-driver-postgresql",
             "polars": "polars", "dlt": "dlt[filesystem,sql_database]"}  # fmt: skip
    for name, package in peers.items():
        [version] = re.findall(rf"^{re.escape(package)}==(.+)$", pinned, re.MULTILINE)
        assert f"{name} {version}" in said


def test_the_bill_is_what_the_measured_times_cost():
    said = section(PERFORMANCE, "Cost")
    # For as many tables as it says: what it says stays true when one is added.
    [tables] = map(int, re.findall(r"for (\d+) tables", said))
    quiet, news = months(tables=tables), months(tables=tables, has_news=True)
    more = sum(months(tables=tables + 1)[0].values()) - sum(quiet[0].values())
    assert f"Each additional table costs US$ {more:.2f}" in said
    assert f"**US$ {sum(quiet[-1].values()):.2f} a month**" in said
    bills = [bill | {"in all": sum(bill.values())} for bill in (quiet[-1], *news)]
    rows = [[name, *(f"{bill[name]:.2f}" for bill in bills)] for name in bills[0]]
    assert [line.strip("| ").split(" | ") for line in re.findall(FOUR_FIGURES, said)] == rows
    assert f"US$ {cost.dms():.2f}" in said
    assert f"about US$ {sum(quiet[0].values()):.0f} a month" in README


def test_what_is_not_in_the_bill_is_named_beside_it():
    said = section(PERFORMANCE, "Cost")
    for what, dollars in cost.apart(FOUND, stages()[0]).items():
        assert f"| {what} | {dollars:.2f} |" in said


def test_a_quiet_stage_costs_less_than_three_dollars_and_no_more_after_years():
    bills = [sum(each.values()) for each in months()]
    assert max(bills) < 3.00
    assert max(bills) - min(bills) <= 0.01


def test_every_alarm_and_every_metric_filter_is_in_the_bill():
    template = read_yaml("serverless.yml")["resources"]["Resources"]
    alarms = [name for name in template if name.endswith("Alarm")]
    filters = [name for name in template if name.endswith("Filter")]
    assert cost.watched_metrics() == len(alarms)  # each watches one
    assert months()[0]["alarms"] == pytest.approx(0.10 * len(alarms))
    assert cost.filters() == len(filters) > 0
    hours = cost.METRIC_HOURS * len(filters)
    assert months()[0]["metrics of the filters"] == pytest.approx(0.30 * hours / 730)


def test_the_bill_knows_what_is_deployed():
    reconcile = read_yaml("services/reconciliation/functions.yml")["reconcile"]
    assert reconcile["memorySize"] == cost.RECONCILE_MEMORY
    assert reconcile["timeout"] - 120 == cost.NIGHT_SECONDS
    assert params()["prod"]["logRetentionDays"] == round(cost.RETENTION_MONTHS * 365 / 12)


def test_when_a_reconciliation_takes_too_long_is_said():
    late = cost.months_until_late(FOUND, stages(has_news=True)[0])
    assert f"After about {late} months" in section(PERFORMANCE, "Cost")


# Contributing.


def test_the_tests_that_it_says_to_run_exist_and_no_folder_is_left_out():
    rows = re.findall(r"^\| .* \| `(tests[^`]*)` \|", page("CONTRIBUTING.md"), re.MULTILINE)
    named = {path for row in rows for path in row.split()}
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    folders = {
        f"tests/integration/{path.name}"
        for path in (ROOT / "tests/integration").iterdir()
        if list(path.glob("test_*.py"))
    }
    assert folders - named <= {f"tests/integration/{room}" for room in ("local", "tools", "pages")}
