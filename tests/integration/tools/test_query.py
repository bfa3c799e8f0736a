"""`make query` against what really landed: the rows of the source, its errors, its prompt."""

from __future__ import annotations

import io
import json
import re
from contextlib import closing

import duckdb
import pytest

from local import totesys as totesys_database
from shared.bucket import keys
from shared.bucket.bucket import Bucket
from shared.contracts.contract import load
from shared.errors import ConfigError, LandingError, StateError
from shared.tables import TABLES, Table
from tests.helpers.oracle.exactly_once import restore
from tests.helpers.oracle.pages import page, section
from tests.helpers.oracle.queried import lines
from tests.helpers.runs.changing import bury, write
from tests.helpers.runs.place import Place
from tools import answers, query
from tools.answers import LandedTables
from tools.stages import function_name

ALL = [*map(Table, TABLES)]
AGGREGATES = (
    "SELECT currency_id, count(*), sum(units_sold * unit_price), min(created_at),"
    " max(last_updated) FROM sales_order GROUP BY currency_id ORDER BY currency_id",
    "SELECT currency_id, payment_type_id, paid, sum(payment_amount), max(payment_date) FROM payment"
    " GROUP BY currency_id, payment_type_id, paid ORDER BY currency_id, payment_type_id, paid",
    "SELECT country, sum(item_unit_price * item_quantity), count(DISTINCT staff_id)"
    " FROM purchase_order JOIN address ON address_id = agreed_delivery_location_id"
    " GROUP BY country ORDER BY min(address_id)",
)  # fmt: skip


@pytest.fixture
def landed(bucket, tmp_path):
    with closing(LandedTables(ALL, bucket, tmp_path)) as landed:
        yield landed


def all_of(landed, sql):
    """Return the rows of each answer."""
    return [list(answer.rows) for answer in landed.ask(sql)]


def ask(landed, sql):
    [rows] = all_of(landed, sql)
    return rows


def in_source(connection, sql):
    """Return the rows of PostgreSQL's answer, each value as it spells it."""
    names = [f"c{number}" for number in range(len(connection.run(sql)[0]))]
    spelled = ", ".join(f"{name}::text" for name in names)
    rows = connection.run(f"SELECT {spelled} FROM ({sql}) AS answer ({', '.join(names)})")
    return [tuple(row) for row in rows]


def test_what_landed_equals_the_source_row_by_row_and_to_the_cent(totesys, bucket, landed):
    place = Place(totesys, bucket, TABLES, {}, batch_rows=100, with_changes=True)
    place.run()
    write(
        place,
        "UPDATE payment SET paid = NOT paid, payment_amount = payment_amount + 0.01"
        " WHERE payment_id % 3 = 0",
        "UPDATE design SET file_location = E'/new\\n\"x\" ☂' WHERE design_id % 2 = 0",
        "UPDATE counterparty SET delivery_contact = NULL WHERE counterparty_id = 3",
        "CREATE TABLE kept AS SELECT * FROM payment WHERE payment_id = 6",
    )
    totesys_database.add_events(totesys.connect(), 20)
    place.run()
    place.execute("DELETE FROM payment WHERE payment_id IN (6, 9, 12)")
    assert bury(place, "payment") == 3
    place.run()
    write(place, "INSERT INTO payment SELECT * FROM kept", "UPDATE payment SET paid = NOT paid")
    for _ in range(2):  # a scan finds that its number is taken
        place.run()
    source = totesys.connect()
    for table in TABLES:
        columns = ", ".join(load(Table(table)) or ())
        every = f"SELECT {columns} FROM {table} ORDER BY {table}_id"
        assert ask(landed, every) == in_source(source, every), table
    for sql in AGGREGATES:
        assert ask(landed, sql) == in_source(source, sql)
    assert ask(landed, "SELECT payment_id FROM payment WHERE payment_id IN (6, 9)") == [("6",)]
    [[versions]] = ask(landed, "SELECT count(*) FROM payment_history WHERE payment_id = 6")
    assert int(versions) >= 4


def test_before_anything_has_landed_each_view_is_empty(bucket, landed):
    for table in TABLES:
        for view in (table, f"{table}_history", f"{table}_objects"):
            assert ask(landed, f"FROM {view}") == []


def land(bucket, last_id, *, above=None, time="2026-11-26T17-55-02", table="payment"):
    """Put an object with one row, and its claim if it says what it begins above."""
    key = keys.format_data_key(Table(table), last_id, time)
    objects = {key: (lines({f"{table}_id": last_id}), {"rows": "1"})}
    if above is not None:
        claim = keys.format_claim_key(Table(table), above)
        objects[claim] = (json.dumps({"key": key}).encode(), {})
    restore(bucket, objects)
    return key


def test_what_no_claim_names_is_listed_and_is_no_part_of_the_table(bucket, landed):
    named = [land(bucket, 5, above=0), land(bucket, 9, above=5)]
    ahead = land(bucket, 12)  # of a load, for all that is known
    stray = [
        land(bucket, 7),
        land(bucket, 5, time="2026-11-26T17-55-03"),
        land(bucket, 9, time="2026-11-26T17-55-03"),
    ]
    restore(
        bucket,
        {
            "payment/latest.json": (b'{"latest_row_id": 9}', {}),
            "payment/5.txt": (b"x", {}),
            "payment/sub/5-2026-11-26T17-55-02.jsonl": (b"x", {}),
            "changes/payment/latest.json": (b"{}", {}),
            "replays/payment/2026-11-26T17-55-02-0-5.jsonl": (b"x", {}),
            keys.format_change_key(Table("payment"), 1): (lines({"payment_id": 4}), {}),
        },
    )
    assert ask(landed, "SELECT payment_id FROM payment ORDER BY 1") == [("4",), ("5",), ("9",)]
    objects = ask(landed, "SELECT key, stream, number, claimed, rows FROM payment_objects")
    assert sorted(objects) == sorted(
        [
            *((key, "rows", None, "true", "1") for key in named),
            *((key, "rows", None, "false", None) for key in stray),
            (ahead, "rows", None, None, None),
            ("changes/payment/0000000001.jsonl", "changes", "1", None, "1"),
        ]
    )
    assert ask(landed, "SELECT DISTINCT bytes FROM payment_objects WHERE claimed") == [("18",)]
    modified = ask(
        landed, "SELECT max(last_modified) > now() - INTERVAL 1 HOUR FROM payment_objects"
    )
    assert modified == [("true",)]


def test_a_batch_that_is_claimed_and_has_not_landed_is_waited_for_by_nobody(bucket, landed):
    land(bucket, 5, above=0)
    land(bucket, 9, above=5)
    bucket.client.delete_object(Bucket=bucket.name, Key="payment/9-2026-11-26T17-55-02.jsonl")
    assert ask(landed, "SELECT payment_id FROM payment") == [("5",)]


def test_while_a_load_is_under_way_the_table_ends_at_its_first_hole(bucket, landed):
    for above, end in ((0, 5), (5, 9), (9, 12)):
        land(bucket, end, above=above)
    bucket.client.delete_object(Bucket=bucket.name, Key="payment/9-2026-11-26T17-55-02.jsonl")
    assert ask(landed, "SELECT payment_id FROM payment") == [("5",)]
    objects = ask(landed, "SELECT key, claimed, rows FROM payment_objects ORDER BY key")
    assert objects == [
        ("payment/12-2026-11-26T17-55-02.jsonl", None, None),
        ("payment/5-2026-11-26T17-55-02.jsonl", "true", "1"),
    ]


# The session.


def requests(bucket):
    """Return a list that the S3 requests from now on are added to."""
    made = []
    bucket.client.meta.events.register("before-call.s3", lambda model, **_: made.append(model.name))
    return made


def test_only_what_is_named_is_read_and_only_once(bucket, landed):
    land(bucket, 5, above=0)
    land(bucket, 9, above=5)
    land(bucket, 3, above=0, table="staff")
    made = requests(bucket)
    assert all_of(landed, "SELECT 1; SHOW TABLES")[0] == [("1",)]
    assert made == []
    assert all_of(landed, "SELECT sum(payment_id) AS staff_id FROM PAYMENT") == [[("14",)]]
    assert sorted(made) == ["GetObject"] * 3 + ["ListObjectsV2"] * 4
    del made[:]
    assert all_of(landed, "FROM payment SELECT count(*)") == [[("2",)]]
    assert made == []


def test_what_was_copied_in_part_is_copied_again(bucket, landed, monkeypatch):
    land(bucket, 5, above=0)
    land(bucket, 9, above=5)
    copies = landed._copies
    with monkeypatch.context() as patch:
        patch.setattr(copies, "_copy_objects", lambda wanted: copies._copy_object(wanted[0]) / 0)
        with pytest.raises(ZeroDivisionError):
            all_of(landed, "FROM payment")
    assert all_of(landed, "SELECT count(*), max(payment_id) FROM payment") == [[("2", "9")]]


LOST = {
    "an object of the chain": "payment/5-2026-11-26T17-55-02.jsonl",
    "a claim before others": "claims/payment/5.json",
    "an object of the change stream": "changes/payment/0000000001.jsonl",
}


@pytest.mark.parametrize("name", LOST)
def test_what_is_missing_is_an_error_that_names_it_and_no_other_answer(bucket, landed, name):
    for above, end in ((0, 5), (5, 9), (9, 12)):
        land(bucket, end, above=above)
    restore(
        bucket,
        {
            keys.format_change_key(Table("payment"), number): (lines({"payment_id": 5}), {})
            for number in (1, 2)
        },
    )
    latest = {"latest_row_id": 12, "timestamp": "2026-11-26T17-55-02", "rows_ingested": 1}
    restore(bucket, {"payment/latest.json": (json.dumps(latest).encode(), {})})
    bucket.client.delete_object(Bucket=bucket.name, Key=LOST[name])
    with pytest.raises(StateError, match=rf"{bucket.name}/{LOST[name]} is missing.*Restore"):
        all_of(landed, "FROM payment")


def test_an_object_with_fewer_lines_than_have_landed_is_an_error(bucket, landed):
    key = land(bucket, 5, above=0)
    restore(bucket, {key: (lines({"payment_id": 5}), {"rows": "2"})})
    with pytest.raises(StateError, match=rf"{key} is truncated or altered"):
        all_of(landed, "FROM payment")


def test_a_bucket_that_refuses_is_an_error_of_its_own(landed, aws, monkeypatch):
    monkeypatch.setattr(landed._copies, "_bucket", Bucket(aws("s3"), "no-such-bucket"))
    with pytest.raises(LandingError, match=r"Could not list s3://no-such-bucket/changes/payment/"):
        all_of(landed, "FROM payment")


def test_a_table_without_a_contract_says_how_to_get_one_and_hides_no_other(bucket, tmp_path):
    with closing(LandedTables([*ALL, Table("invoice")], bucket, tmp_path)) as landed:
        assert all_of(landed, "SELECT count(*) FROM payment") == [[("0",)]]
        with pytest.raises(ConfigError, match=r"'invoice' has no contract, .* TABLE=invoice"):
            all_of(landed, "FROM invoice_history")


def test_nothing_of_python_is_a_table_and_nothing_is_fetched_from_elsewhere(landed):
    with pytest.raises(duckdb.Error, match="Table with name queries does not exist"):
        all_of(landed, "FROM queries")  # a variable where DuckDB is called
    settings = "SELECT name, value FROM duckdb_settings() WHERE name LIKE 'auto%known%' ORDER BY 1"
    assert [value for _, value in all_of(landed, settings)[0]] == ["false", "false"]


# The command.


@pytest.fixture
def stage(log, aws, bucket):
    """Let the stage `test` have the bucket; its name."""
    aws("lambda").update_function_configuration(
        FunctionName=function_name("test"), Environment={"Variables": {"BUCKET_NAME": bucket.name}}
    )
    land(bucket, 5, above=0)
    land(bucket, 9, above=5)
    return "test"


def run(stage, *words):
    return query.main(["--stage", stage, *words])


def test_people_read_a_table(stage, capsys):
    sql = "SELECT payment_id, 'a\nb' AS name, paid FROM payment ORDER BY 1; SELECT 3.10 AS amount"
    assert run(stage, sql) == 0
    assert capsys.readouterr().out.splitlines() == [
        "payment_id  name  paid",
        "         5  a     NULL",
        "            b",
        "         9  a     NULL",
        "            b",
        "",
        "amount",
        "  3.10",
    ]


def test_a_pivot_which_duckdb_makes_several_statements_of_is_answered(stage, capsys):
    assert (
        run(stage, "PIVOT (SELECT payment_id % 2 AS odd FROM payment) ON odd USING count(*)") == 0
    )
    assert capsys.readouterr().out == "1\n2\n"


def test_people_are_told_that_there_is_more(stage, capsys):
    assert run(stage, "FROM range(501)") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[500:] == [
        "  499",
        "",
        "These are the first 500 rows. JSON=1 prints all of them.",
    ]
    assert run(stage, "FROM range(500)") == 0
    assert capsys.readouterr().out.splitlines()[500:] == ["  499"]


def test_machines_read_json_lines(stage, capsys):
    sql = (
        "FROM range(20001); SELECT payment_id, paid, 12345678901234567890.10 AS amount,"
        ' \'é"\' AS "a""b", \'2022-11-03 14:20:52.186\'::TIMESTAMP AS at, [1, 2] AS list,'
        " {'a': true} AS struct, '{\"a\": 3.10}'::JSON AS doc, 'nan'::DOUBLE AS nan, 1e300 AS big,"
        " true AS yes, 0.5::DECIMAL(1, 1) AS half, -0.5::DECIMAL(1, 1) AS less"
        " FROM payment ORDER BY 1 LIMIT 1"
    )
    assert run(stage, "--json", sql) == 0
    *numbers, last = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in numbers] == [{"range": n} for n in range(20001)]
    assert last == (
        '{"payment_id":5,"paid":null,"amount":12345678901234567890.10,"a\\"b":"é\\"",'
        '"at":"2022-11-03 14:20:52.186","list":[1,2],"struct":{"a":true},"doc":{"a": 3.10},'
        '"nan":"nan","big":1e+300,"yes":true,"half":0.5,"less":-0.5}'
    )
    assert json.loads(last)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT nothing FROM payment", 'Binder Error: Referenced column "nothing" not found'),
        ("FROM pay", "Catalog Error: Table with name pay does not exist!"),
        ("SELECT 'x'::DATE", "Conversion Error: invalid date field format"),
        ("SELECT $1", "Binder Error: "),
        ("SELECT 7 FROM", "Parser Error: syntax error at end of input"),
    ],
)
def test_an_error_is_in_the_words_of_duckdb(stage, sql, said, capsys):
    with pytest.raises(SystemExit) as ended:
        run(stage, f"SELECT 7 AS n; {sql}")
    assert str(ended.value.code).startswith(said)
    # Nothing is run of what can't be parsed.
    assert capsys.readouterr().out == ("" if said.startswith("Parser") else "n\n7\n")


def test_a_stage_that_does_not_exist_is_one_line(stage):
    with pytest.raises(SystemExit, match="There is no stage 'nowhere' in eu-west-2"):
        run("nowhere", "SELECT 1")


SCRIPT = """\
SELECT count(*) AS n
FROM payment;
SELECT nothing;

CREATE TABLE copy AS FROM payment;
SELECT sum(payment_id) AS total FROM copy"""


def test_a_script_is_answered_statement_by_statement(stage, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(SCRIPT))
    assert run(stage) == 1
    said = capsys.readouterr()
    assert said.out == "n\n2\ntotal\n   14\n"
    assert said.err.startswith('Binder Error: Referenced column "nothing" was not found')
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(stage, "--json") == 0
    assert capsys.readouterr() == ("", "")


def test_somebody_who_types_is_greeted_and_may_be_wrong(stage, capsys, monkeypatch):
    typed = iter(["SELECT", KeyboardInterrupt(), "SELECT nothing;", "SELECT", "1 AS n;"])

    def input_(prompt):
        asked.append(prompt)
        line = next(typed, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    asked: list = []
    monkeypatch.setattr("builtins.input", input_)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert run(stage) == 0
    assert asked == ["SQL> ", "...> ", "SQL> ", "SQL> ", "...> ", "SQL> "]
    said = capsys.readouterr()
    assert "payment_history" in said.out
    assert said.out.endswith("n\n1\n")
    assert "Binder Error" in said.err


def test_ctrl_c_ends_the_command_as_it_ends_others(stage, monkeypatch):
    """DuckDB makes a RuntimeError of it."""

    def rows(_relation):
        with answers._interruptible():
            raise RuntimeError("Query interrupted") from KeyboardInterrupt()
        yield ()

    monkeypatch.setattr(answers, "_rows", rows)
    assert run(stage, "SELECT 1") == 130


def test_the_commands_in_the_guide_work(stage, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    guide = section(page("docs/consuming.md"), "Query with SQL")
    commands = re.findall(r'^make query STAGE=prod SQL="(.*)"$', guide, re.MULTILINE)
    assert len(commands) == 3
    for sql in commands:
        assert run(stage, sql) == 0
    assert "payment/5-" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["staff.parquet"]


def test_nothing_is_left_behind(stage, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run(stage, "SELECT count(*) AS n FROM payment") == 0
    with pytest.raises(SystemExit):
        run(stage, "SELECT nothing FROM payment")
    assert list(tmp_path.iterdir()) == []
