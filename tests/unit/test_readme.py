"""What README says is true of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from shared.bucket import keys
from shared.tables import Table
from tests.helpers.readme import README, minutes_to_fire

ROOT = Path(__file__).resolve().parents[2]


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> set[str]:
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def loader():
    """YAML with CloudFormation's short tags read as plain values."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, tag, node: None)
    return Loader


def read_yaml(path: str):
    return yaml.load((ROOT / path).read_text(), Loader=loader())


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"make ([a-z-]+)(?=[ `\n])", README + "\n")))
)
def test_every_make_command_is_a_target(target):
    assert re.search(rf"^{target}:.*##", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def test_the_parameters_are_those_of_serverless_yml():
    params = read_yaml("serverless.yml")["params"]["default"]
    assert first_cells(section("Configuration")) == set(params)
    for line in section("Configuration").splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if cells[0] in params and cells[1].isdigit():
            assert str(params[cells[0]]) == cells[1], cells[0]


def test_the_alarms_are_those_that_are_deployed():
    alarms = read_yaml("resources/alarms.yml")
    names = {
        alarm["Properties"]["AlarmName"].split("${sls:stage}-")[1]
        for alarm in alarms.values()
        if alarm["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert first_cells(section("When a mail comes")) == names
    assert set(minutes_to_fire()) == names - {"started"}


def test_the_keys_are_keys_of_ours():
    found = re.findall(r"prod-ingestion-bucket/(\S+\.jsonl)", README)
    assert len(found) >= 3
    for key in found:
        assert keys.parse_data_key(key).table == Table("address")
    assert f"prod-ingestion-bucket/{keys.format_claim_key(Table('address'), 1491)}" in README
    assert f"prod-ingestion-bucket/{keys.format_latest_key(Table('address'))}" in README


def test_the_landed_line_is_a_line_of_json():
    [line] = re.findall(r'^\{"sales_order_id".*$', README, re.MULTILINE)
    assert json.loads(line)["unit_price"] == 3.94


def test_the_folders_are_there():
    paths = re.findall(r"^([a-z-]+(?:/[a-z0-9-]+)*(?:/|\.yml))  ", section("Layout"), re.MULTILINE)
    assert len(paths) == 9
    for path in paths:
        assert (ROOT / path).exists(), path


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            titles = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
            assert target[1:] in [title.lower().replace(" ", "-") for title in titles], target
        else:
            assert (ROOT / target).exists(), target
