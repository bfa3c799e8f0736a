"""The service of docs/next-service.md keeps its tables as the source's, whatever disturbs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from itertools import count
from threading import get_ident

import boto3
import pytest

import services
from shared.clients import s3_client
from shared.errors import SourceError, StateError
from shared.postgres.session import database_session
from tests.helpers import next_service
from tests.helpers.cases import all_but, one_in
from tests.helpers.faults.steps import PausedRun, on_every_step
from tests.helpers.oracle.landed import data_keys
from tests.helpers.oracle.pages import ROOT
from tests.helpers.oracle.policies import grants_of, recorded, refused, spare
from tests.helpers.runs.changing import bury
from tests.helpers.runs.place import Died, Place
from tests.integration.bucket.test_policies import BY_LAMBDA, values

REPORT = "SELECT pg_stat_force_next_flush()"
ODD = ['"', "\\", "\n", "\x1c\u2028", "é😀", "\x85", "{},", "null"]


@pytest.fixture(scope="module")
def handler(tmp_path_factory):
    """The handler of the page, as a module of this process."""
    folder = tmp_path_factory.mktemp("next") / "services" / "warehouse"
    folder.mkdir(parents=True)
    for name in ("__init__.py", "handler.py"):
        (folder / name).write_text(next_service.text_of(f"services/warehouse/{name}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "__path__", [*services.__path__, str(folder.parent)])
        yield import_module("services.warehouse.handler")
    for name in ("services.warehouse", "services.warehouse.handler"):
        del sys.modules[name]
    del vars(services)["warehouse"]


@pytest.fixture
def place(totesys, bucket):
    """A Totesys of which the tables have landed."""
    place = Place(totesys, bucket, ["payment", "currency"], {}, with_changes=True, batch_rows=200)
    place.run()
    return place


@pytest.fixture
def warehouse(database, bucket, aws, handler, monkeypatch):
    """The tables of the warehouse, and the environment of the function."""
    connection = database.connect()
    connection.run(next_service.schema().replace("TO warehouse", "TO reader"))
    secrets = aws("secretsmanager")
    name = f"{bucket.name}/warehouse"
    secrets.create_secret(Name=name, SecretString=json.dumps(database.secret))
    for variable, value in {
        "BUCKET_NAME": bucket.name,
        "DB_SECRET_ID": name,
        "DB_CA_FILE": "shared/rds-ca/eu-west-2.pem",
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(handler, "ROWS", 150)
    return connection


def rows(connection):
    return {
        name: connection.run(f"SELECT * FROM {name} ORDER BY {name}_id")
        for name in ("payment", "currency")
    }


def change(place, first):
    """Update, delete and insert some rows, and let all of it land."""
    some, others = f"BETWEEN {first} AND {first + 9}", f"BETWEEN {first + 5} AND {first + 14}"
    place.execute(
        f"UPDATE payment SET payment_amount = 3.10 WHERE payment_id {some}",
        f"DELETE FROM payment WHERE payment_id {others}",
        "INSERT INTO currency (currency_code, created_at, last_updated) "
        "VALUES ('GBP', now(), now())",
        REPORT,
        REPORT,
    )
    place.run()
    bury(place, "payment")


def call(handler, step=lambda _: None):
    """Call the handler; `step` is called at each of its steps, and not at those of other calls."""
    caller, client = get_ident(), boto3.client("s3")

    @contextmanager
    def session(settings):
        with database_session(settings) as opened:
            if get_ident() == caller:
                on_every_step(client, opened.connection, step)
            yield opened

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handler, "database_session", session)
        patch.setattr(
            handler, "s3_client", lambda: client if get_ident() == caller else s3_client()
        )
        return handler.lambda_handler({}, None)


def test_odd_values_arrive_as_they_are(place, warehouse, totesys, handler):
    source = totesys.connect()
    source.run("ALTER TABLE currency ALTER currency_code TYPE text")
    for text in ODD:
        source.run(
            "INSERT INTO currency (currency_code, created_at, last_updated) "
            "VALUES (:text, now(), now())",
            text=text,
        )
    place.run()
    call(handler)
    found = rows(warehouse)
    assert found == rows(source)
    assert {code for _, code, *_ in found["currency"]} >= set(ODD)


def dying_at(number):
    left = count(number, -1)

    def step(_):
        if next(left) == 0:
            raise Died

    return step


@pytest.mark.parametrize("first", one_in(23, range(23)))
def test_a_call_may_die_anywhere(place, warehouse, totesys, handler, first):
    call(handler)
    deaths = 0
    for number in count(first, 23):
        change(place, 1 + 15 * (number % 15))
        try:
            call(handler, dying_at(number))
        except Died:
            deaths += 1
        else:
            break
    assert deaths > 1
    call(handler)
    assert rows(warehouse) == rows(totesys.connect())


@pytest.mark.parametrize("before", all_but(range(13), range(13)))
def test_calls_may_overlap(place, warehouse, totesys, handler, before):
    source = totesys.connect()
    with ThreadPoolExecutor(1) as executor:
        for number in count(before, 13):
            change(place, 1 + 15 * (number % 15))
            paused = PausedRun(partial(call, handler))
            is_paused = paused.advance(number)
            change(place, 9 + 15 * (number % 15))
            second = executor.submit(handler.lambda_handler, {}, None)
            paused.finish()
            second.result()
            assert rows(warehouse) == rows(source)
            if not is_paused:
                break
    assert number > 13


def test_what_fails_is_named_and_leaves_everything_as_it_was(
    place, warehouse, totesys, handler, log_lines
):
    warehouse.run("ALTER TABLE payment ADD CHECK (payment_id < 200)")
    with pytest.raises(SourceError, match=r"The warehouse: new row .* violates check constraint"):
        call(handler)
    [*_, line] = log_lines()
    assert (line["level"], line["error"]) == ("ERROR", "SourceError")
    assert rows(warehouse)["payment"] == []
    assert warehouse.run("SELECT * FROM followed") == []
    warehouse.run("ALTER TABLE payment DROP CONSTRAINT payment_payment_id_check")
    call(handler)
    assert rows(warehouse) == rows(totesys.connect())


def test_a_lost_object_stops_it_until_it_is_restored(place, warehouse, totesys, bucket, handler):
    lost = data_keys(bucket, "payment")[0]
    body = bucket.get(lost).body
    bucket.client.delete_object(Bucket=bucket.name, Key=lost)
    with pytest.raises(StateError, match=lost):
        call(handler)
    bucket.client.put_object(Bucket=bucket.name, Key=lost, Body=body)
    call(handler)
    assert rows(warehouse) == rows(totesys.connect())


def test_the_role_allows_what_is_needed_and_nothing_else(place, warehouse, bucket, handler):
    with recorded() as needs:
        for first in (1, 50):
            call(handler)
            change(place, first)
            place.execute(f"UPDATE currency SET currency_code = '{first}' WHERE currency_id = 1")
            place.execute(REPORT, REPORT)
            place.run()
        call(handler)
    reads = {need for need in needs if need.action != "s3:PutObject"}
    ours = {need for need in reads if "/inventory/" not in need.resource}
    given = values(bucket.name, "") | {"sls:stage": bucket.name}
    grants = grants_of("WarehouseRole", given, next_service.text_of("resources/roles.yml"))
    assert refused(ours, grants) == set()
    assert [grant.action for grant in spare(ours, grants)] == BY_LAMBDA


@pytest.mark.long
def test_its_own_tests_and_the_linters_find_nothing(tmp_path):
    folder = tmp_path / "repository"
    next_service.copy_service(folder)
    for name in ("benchmarks", "docs", "local", "tests", "tools"):
        ignored = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    next_service.add_to(folder)
    for command in (
        ["pytest", "tests/integration/warehouse", "tests/unit/test_architecture.py"],
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy", "services/warehouse", "tests/integration/warehouse"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
