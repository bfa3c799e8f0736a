"""Faults of a deployed stage, injected into the local one; each is undone at the end."""

from __future__ import annotations

from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.stage import SECRET
from tests.helpers.faults.s3 import faulty_s3, refused
from tests.helpers.runs.drills import configured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stage import LocalStage

NEW_ADDRESS = """
INSERT INTO address (address_line_1, city, postal_code, country, phone, last_updated)
VALUES ('1 Long Lane', 'Leeds', '00123', 'England', '0113', now())
"""
LARGE_ADDRESS = """
INSERT INTO address (address_line_1, city, postal_code, country, phone, last_updated)
VALUES (repeat('1 Long Lane ', 4000000), 'Leeds', '00123', 'England', '0113', now())
"""
BAD_ORDER = """
INSERT INTO sales_order (
    created_at, last_updated, design_id, staff_id, counterparty_id, units_sold, unit_price,
    currency_id, agreed_delivery_date, agreed_payment_date, agreed_delivery_location_id
)
SELECT now(), now(), design_id, staff_id, counterparty_id, units_sold, unit_price,
       currency_id, 'next week', agreed_payment_date, agreed_delivery_location_id
FROM sales_order ORDER BY sales_order_id LIMIT 2
"""


@contextmanager
def database_down(stage: LocalStage) -> Iterator[None]:
    """The server does not listen: its socket is away."""
    socket = Path(stage.server.host) / f".s.PGSQL.{stage.server.port}"
    socket.rename(socket.with_suffix(".away"))
    try:
        yield
    finally:
        socket.with_suffix(".away").rename(socket)


@contextmanager
def wrong_password(stage: LocalStage) -> Iterator[None]:
    """The password was rotated in the database, but not in the secret."""
    secret = stage.server.secret("totesys")
    stage.set_secret({**secret, "password": "not it"})
    stage.next_call_is_cold()  # a warm function remembers the secret for some seconds
    try:
        yield
    finally:
        stage.set_secret(secret)
        stage.next_call_is_cold()


@contextmanager
def secret_gone(stage: LocalStage) -> Iterator[None]:
    """The secret was deleted, or has expired."""
    client = stage.aws.client("secretsmanager")
    client.delete_secret(SecretId=SECRET)
    stage.next_call_is_cold()
    try:
        yield
    finally:
        client.restore_secret(SecretId=SECRET)
        stage.next_call_is_cold()


@contextmanager
def secret_malformed(stage: LocalStage) -> Iterator[None]:
    """The secret holds something else."""
    stage.set_secret({"user": "reader"})
    stage.next_call_is_cold()
    try:
        yield
    finally:
        stage.set_secret(stage.server.secret("totesys"))
        stage.next_call_is_cold()


@contextmanager
def _undone(stage: LocalStage, do: str, undo: str) -> Iterator[None]:
    stage.database.run(do)
    try:
        yield
    finally:
        stage.database.run(undo)


@contextmanager
def permission_missing(stage: LocalStage) -> Iterator[None]:
    """The role may not read a table any more."""
    with _undone(
        stage, "REVOKE SELECT ON payment FROM reader", "GRANT SELECT ON payment TO reader"
    ):
        yield


@contextmanager
def table_dropped(stage: LocalStage) -> Iterator[None]:
    """A table was dropped."""
    with _undone(
        stage, "ALTER TABLE payment RENAME TO hidden", "ALTER TABLE hidden RENAME TO payment"
    ):
        yield


@contextmanager
def table_emptied(stage: LocalStage) -> Iterator[None]:
    """All rows of a table are gone, as after a backup was restored to a wrong moment."""
    with _undone(
        stage,
        "CREATE TABLE gone AS SELECT * FROM payment; DELETE FROM payment",
        "INSERT INTO payment OVERRIDING SYSTEM VALUE SELECT * FROM gone; DROP TABLE gone",
    ):
        yield


@contextmanager
def column_renamed(stage: LocalStage) -> Iterator[None]:
    """A column has another name, and there are new rows."""
    rename = "ALTER TABLE address RENAME COLUMN {} TO {}"
    with _undone(stage, rename.format("district", "borough"), rename.format("borough", "district")):
        stage.database.run(NEW_ADDRESS)
        yield


@contextmanager
def bad_values(stage: LocalStage) -> Iterator[None]:
    """There are new rows that break the contract."""
    stage.database.run(BAD_ORDER)
    yield


@contextmanager
def object_deleted(stage: LocalStage, key: str) -> Iterator[None]:
    """An object is missing from the bucket."""
    with _put_back(stage, key):
        stage.aws.client("s3").delete_object(Bucket=stage.landed.bucket_name, Key=key)
        yield


@contextmanager
def object_lost(stage: LocalStage, key: str) -> Iterator[None]:
    """An object is missing from the bucket, and so are its versions."""
    client, bucket = stage.aws.client("s3"), stage.landed.bucket_name
    with _put_back(stage, key):
        found = client.list_object_versions(Bucket=bucket, Prefix=key)
        for version in found["Versions"]:
            client.delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])
        yield


@contextmanager
def value_altered(stage: LocalStage, key: str) -> Iterator[None]:
    """Somebody edited a value in an object."""
    with _put_back(stage, key) as object_:
        altered = {**object_, "Body": object_["Body"].replace(b"Leeds", b"Derby")}
        stage.aws.client("s3").put_object(**altered)
        yield


@contextmanager
def _put_back(stage: LocalStage, key: str) -> Iterator[dict[str, Any]]:
    """Yield an object, as it is put; put it again in the end."""
    client, named = stage.aws.client("s3"), {"Bucket": stage.landed.bucket_name, "Key": key}
    found = client.get_object(**named)
    object_ = {**named, "Body": found["Body"].read(), "Metadata": found["Metadata"]}
    try:
        yield object_
    finally:
        client.put_object(**object_)


@contextmanager
def _s3_answers(stage: LocalStage, status: int, code: str) -> Iterator[None]:
    with faulty_s3(stage.aws.endpoint) as proxy:
        proxy.choose = lambda _: refused(status, code)
        with configured(stage, {"AWS_ENDPOINT_URL_S3": proxy.url}):
            yield


@contextmanager
def s3_overloaded(stage: LocalStage) -> Iterator[None]:
    """S3 answers 503 to everything."""
    with _s3_answers(stage, 503, "SlowDown"):
        yield


@contextmanager
def s3_permission_missing(stage: LocalStage) -> Iterator[None]:
    """The function's role may not use the bucket."""
    with _s3_answers(stage, 403, "AccessDenied"):
        yield


@contextmanager
def out_of_memory(stage: LocalStage) -> Iterator[None]:
    """The function has less memory than a single row takes that it has to land."""
    stage.database.run(LARGE_ADDRESS)
    with configured(stage, {}, MemorySize=128):
        yield


@contextmanager
def locked(stage: LocalStage) -> Iterator[None]:
    """Another session has locked a table and stays idle."""
    stage.database.run(NEW_ADDRESS)  # without news no table is read
    with closing(stage.server.connect("totesys")) as session:
        session.run("BEGIN")
        session.run("LOCK TABLE payment, address")
        yield


@contextmanager
def too_slow(stage: LocalStage) -> Iterator[None]:
    """A call takes longer than it may."""
    with configured(stage, {}, Timeout=2), locked(stage):
        yield


@contextmanager
def writer_stays_open(stage: LocalStage) -> Iterator[None]:
    """A transaction has drawn an id and does not end; others commit before and behind it."""
    with (
        configured(stage, {"WRITER_WAIT_SECONDS": "0"}),
        closing(stage.server.connect("totesys")) as session,
    ):
        stage.database.run(NEW_ADDRESS)
        session.run("BEGIN")
        session.run(NEW_ADDRESS)
        stage.database.run(NEW_ADDRESS)
        yield
