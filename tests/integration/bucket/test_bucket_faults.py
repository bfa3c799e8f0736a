"""S3 failing in every way it has, at each request of a run.

The run ends with the error that says whether another try helps, and the next one finds everything
in order: every row once, latest.json right, nothing gone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
import yaml
from botocore.exceptions import ConnectTimeoutError

from shared.bucket.bucket import Bucket
from shared.clients import s3_client
from shared.errors import ConfigError, IngestionError, LandingError, LandingUnavailableError
from shared.postgres.credentials import secrets_provider
from tests.helpers.faults import s3 as faults
from tests.helpers.faults.s3 import faulty_s3, refused
from tests.helpers.oracle.exactly_once import content
from tests.helpers.runs.place import Place, without_retries

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[3]
INSERT = "INSERT INTO thing (name) SELECT 'new' FROM generate_series(1, 3)"

TRANSIENT = {
    "500": refused(500, "InternalError"),
    "503": refused(503, "SlowDown"),
    "409": refused(409, "ConditionalRequestConflict"),
    "429": refused(429, "TooManyRequests"),
    "400, too late": refused(400, "RequestTimeout"),
    "reset": faults.reset,
    "silence": faults.silence,
    "applied, then 500": faults.applied_then_failed,
    "applied, then reset": faults.applied_then_reset,
}
LASTING = {
    "403": refused(403, "AccessDenied"),
    "404": refused(404, "NoSuchBucket"),
    "400": refused(400, "InvalidRequest"),
}
EVERY_FAULT = [
    *((fault, LandingUnavailableError) for fault in TRANSIENT),
    *((fault, LandingError) for fault in LASTING),
]
# Without a body, and so without a code: 404 means what it says, and botocore follows a 400 to
# the region where it thinks that the bucket is.
UNCLEAR_FOR_HEAD = ("404", "400", "400, too late")


REQUESTS = {
    "place": [
        "GET thing/latest.json",
        "GET ?list",
        "GET claims/thing/0.json",
        "GET ?list",
        "GET ?list",
        "PUT claims/thing/0.json",
        "PUT thing/3.jsonl",
        "PUT thing/latest.json",
    ],
    "lost_latest": [
        "GET thing/latest.json",
        "GET ?list",
        "GET ?list",
        "GET claims/thing/3.json",
        "HEAD thing/6.jsonl",
        "HEAD thing/3.jsonl",
        "HEAD thing/6.jsonl",
        "PUT thing/6.jsonl",
        "PUT thing/latest.json",
        "GET claims/thing/6.json",
        "GET ?list",
        "GET ?list",
        "PUT claims/thing/6.json",
        "PUT thing/9.jsonl",
        "PUT thing/latest.json",
    ],
}


@pytest.fixture
def place(database, bucket):
    """A table that has not landed yet."""
    connection = database.connect()
    connection.run("CREATE TABLE thing (thing_id serial PRIMARY KEY, name text)")
    connection.run(INSERT)
    return Place(database, bucket, ["thing"], {})


@pytest.fixture
def lost_latest(place):
    """A run died after its claim of the second batch, and latest.json is lost."""
    place.run()
    place.execute(INSERT)
    place.die_after_claiming()
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key="thing/latest.json")
    place.execute(INSERT)
    return place.now()


@pytest.fixture
def proxy(aws_endpoint):
    with faulty_s3(aws_endpoint) as running:
        yield running


@pytest.fixture
def no_pauses(monkeypatch):
    """Let botocore try again at once."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))


def at(number, fault, methods=()):
    """Return a choice of faults: this one for the request of that number; and the requests made.

    Only requests of these methods count, if some are named.
    """
    requests = []

    def choose(request):
        if methods and request.method not in methods:
            return None
        requests.append(request)
        return fault if len(requests) == number + 1 else None

    return choose, requests


def run(place, proxy, choose, **options):
    proxy.choose = choose
    return place.run(endpoint_url=proxy.url, config=without_retries(**options))


def puts(requests):
    return [number for number, request in enumerate(requests) if request.startswith("PUT")]


def fails(place, proxy, number, fault, methods=()):
    """Let a fault happen to one request of a run; return the table's error."""
    choose, _ = at(number, fault, methods)
    with pytest.raises(IngestionError) as failure:
        run(place, proxy, choose, read_timeout=0.3)
    [error] = failure.value.failures.values()
    assert failure.value.transient is error.transient
    return error


def each_request(place, requests, proxy, name, kind, stride=1):
    """Let a fault happen to each request of a run in turn; the failures have to be of a kind."""
    fault = (TRANSIENT | LASTING)[name]
    for number in range(len(name) % stride, len(requests), stride):
        if requests[number].startswith("HEAD") and name in UNCLEAR_FOR_HEAD:
            continue
        attempt = place.again()
        error = fails(attempt, proxy, number, fault)
        assert type(error) is kind, (requests[number], str(error))
        if number < puts(requests)[0]:
            assert content(attempt.bucket) == attempt.before  # it does not pass for an empty bucket
        attempt.run()
        attempt.check()


@pytest.mark.parametrize("situation", REQUESTS)
def test_the_requests_of_a_run_are_these(situation, proxy, request):
    choose, requests = at(-1, None)
    run(request.getfixturevalue(situation), proxy, choose)
    assert [made.place for made in requests] == REQUESTS[situation]


@pytest.mark.parametrize(("name", "kind"), EVERY_FAULT)
def test_the_error_says_whether_another_try_helps(place, proxy, name, kind):
    each_request(place, REQUESTS["place"], proxy, name, kind, stride=7)


@pytest.mark.long
@pytest.mark.parametrize(("name", "kind"), EVERY_FAULT)
@pytest.mark.parametrize("situation", REQUESTS)
def test_the_error_says_whether_another_try_helps_everywhere(situation, name, kind, proxy, request):
    place = request.getfixturevalue(situation)
    each_request(place, REQUESTS[situation], proxy, name, kind)


def test_half_an_answer_is_none(lost_latest, proxy):
    for number, request in enumerate(REQUESTS["lost_latest"]):
        if request.startswith("GET"):
            attempt = lost_latest.again()
            error = fails(attempt, proxy, number, faults.truncated)
            assert type(error) is LandingUnavailableError, (request, str(error))
            if number < puts(REQUESTS["lost_latest"])[0]:
                assert content(attempt.bucket) == attempt.before
            attempt.run()
            attempt.check()


def altered(exchange):
    """Answer something else than was stored, as its checksum says."""
    answer = exchange.forward()
    kept = [header for header in answer.headers if "checksum" not in header[0].lower()]
    headers = [*kept, ("x-amz-checksum-crc32", "AAAAAA==")]
    exchange.answer(faults.Answer(answer.status, headers, answer.body))


def test_an_answer_that_was_altered_on_its_way_is_none(place, proxy):
    place.run()
    bucket = Bucket(boto3.client("s3", endpoint_url=proxy.url), place.bucket.name)
    proxy.choose = lambda _: altered
    with pytest.raises(LandingUnavailableError, match="checksum"):
        bucket.get("thing/latest.json")


def test_a_list_is_of_one_folder(bucket):
    """A table may be called `thing/else`, and is another one than `thing`."""
    for key in ("thing/1", "thing/2", "thing/else/3", "things/4"):
        bucket.create(key, b"")
    assert list(bucket.keys("thing/")) == ["thing/1", "thing/2"]
    assert list(bucket.keys("thing/", after="thing/1")) == ["thing/2"]


def test_half_a_refusal_is_one(place, proxy):
    bucket = Bucket(boto3.client("s3", endpoint_url=proxy.url), place.bucket.name)
    assert bucket.create("thing/1", b"")
    proxy.choose = lambda _: faults.truncated
    assert not bucket.create("thing/1", b"")
    assert bucket.replace("thing/1", b"", '"another etag"') is None


def test_a_list_that_is_not_one_of_s3_is_no_list(lost_latest, proxy):
    number = REQUESTS["lost_latest"].index("GET ?list")
    error = fails(lost_latest, proxy, number, faults.garbled)
    assert type(error) is LandingUnavailableError
    assert content(lost_latest.bucket) == lost_latest.before


# --- the client that the functions use ---


@pytest.fixture
def ours(proxy, no_pauses, aws, monkeypatch):
    """Its bucket is not there: what it asks for is None, once it gets an answer."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    s3_client.cache_clear()
    return s3_client()


def fail_some(proxy, fault, times):
    """Let the first requests fail; return all that are made."""
    made = []

    def choose(request):
        made.append(request)
        return fault if len(made) <= times else None

    proxy.choose = choose
    return made


@pytest.mark.parametrize("name", ["500", "503", "429", "reset", "400, too late"])
def test_the_functions_try_again_and_give_up_in_the_end(place, proxy, ours, name):
    bucket = Bucket(ours, place.bucket.name)
    made = fail_some(proxy, TRANSIENT[name], 3)
    assert bucket.get("nothing") is None
    assert len(made) == 4
    made = fail_some(proxy, TRANSIENT[name], 9)
    with pytest.raises(LandingUnavailableError):
        bucket.get("nothing")
    assert len(made) == 4


@pytest.mark.parametrize("client", [s3_client, lambda: secrets_provider().client])
def test_the_functions_give_up_in_time_to_say_so(aws, client):
    """A client's own patience, one minute a try, outlasts a call."""
    config = client().meta.config
    attempts = config.retries["total_max_attempts"]
    assert attempts > 1
    assert config.connect_timeout <= 5
    assert config.read_timeout <= 30
    parameters = yaml.safe_load((ROOT / "serverless.yml").read_text())["params"]["default"]
    call_seconds = parameters["timeoutSeconds"]
    assert attempts * (config.connect_timeout + config.read_timeout) < call_seconds


@pytest.mark.parametrize("name", ["503", "applied, then 500", "applied, then reset"])
def test_a_write_that_fails_once_is_not_even_noticed(place, proxy, no_pauses, name):
    """The client tries again, and may find what its first try has written: 412."""
    for number in puts(REQUESTS["place"]):
        attempt = place.again()
        proxy.choose, _ = at(number, TRANSIENT[name])
        attempt.run(endpoint_url=proxy.url)
        attempt.check()


def test_latest_json_keeps_up_after_a_write_that_was_applied_and_failed(place, proxy, no_pauses):
    """Its etag was lost with the answer, and further batches need it."""
    place = replace(place, batch_rows=2)
    place.execute(INSERT)
    first = REQUESTS["place"].index("PUT thing/latest.json")
    proxy.choose, _ = at(first, faults.applied_then_failed)
    place.run(endpoint_url=proxy.url)
    place.check()


@pytest.mark.parametrize(
    "situation", ["place", pytest.param("lost_latest", marks=pytest.mark.long)]
)
def test_a_put_that_arrives_after_the_next_run_is_refused(situation, proxy, request):
    place = request.getfixturevalue(situation)
    for number in range(len(puts(REQUESTS[situation]))):
        attempt = place.again()
        fails(attempt, proxy, number, faults.held, {"PUT"})
        attempt.execute(INSERT)
        attempt.run()
        attempt.check()
        assert [answer.status for answer in proxy.release()] == [412]
        attempt.check()
        attempt.execute(INSERT)
        attempt.run()
        attempt.check()


def test_a_put_that_arrives_during_the_next_run_is_part_of_it(place, proxy):
    for number in puts(REQUESTS["place"]):
        attempt = place.again()
        fails(attempt, proxy, number, faults.held)
        arrived: list[faults.Answer] = []

        def release_before_own(request, arrived=arrived):
            if request.method == "PUT" and [request.path] == [late.path for late in proxy.held]:
                arrived.extend(proxy.release())

        run(attempt, proxy, release_before_own)
        attempt.check()
        assert [answer.status for answer in arrived] == [200]


def test_an_endpoint_out_of_reach(place):
    with pytest.raises(IngestionError, match="Could not connect") as failure:
        place.run(endpoint_url="http://127.0.0.1:9", config=without_retries())
    assert failure.value.transient


def test_a_connection_that_is_not_made_in_time(place):
    # A network that swallows packets can't be had on loopback.
    def time_out(request, **_):
        raise ConnectTimeoutError(endpoint_url=request.url)

    client = boto3.client("s3", config=without_retries())
    client.meta.events.register("before-send.s3", time_out)
    with pytest.raises(LandingUnavailableError, match="Connect timeout"):
        Bucket(client, place.bucket.name).get("thing/latest.json")


def test_our_own_mistakes_are_not_tried_again(place, monkeypatch):
    with pytest.raises(LandingError, match="Invalid bucket name"):
        Bucket(place.bucket.client, "no such name").get("thing/latest.json")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.Session().client("s3")
    with pytest.raises(ConfigError, match="Unable to locate credentials"):
        Bucket(client, place.bucket.name).get("thing/latest.json")
