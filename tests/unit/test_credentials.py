"""What Secrets Manager's refusals mean, and how often it is asked."""

from __future__ import annotations

import json

import pytest
from botocore.stub import Stubber

from shared.errors import ConfigError, LandingUnavailableError
from shared.postgres.credentials import get_credentials, secrets_provider

SECRET = {
    "host": "db.example.com",
    "port": 5432,
    "dbname": "totesys",
    "username": "reader",
    "password": "hunter2",
}


@pytest.fixture
def manager(monkeypatch):
    """Stand in for Secrets Manager, behind the client that the functions use."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    secrets_provider.cache_clear()
    with Stubber(secrets_provider().client) as stub:
        yield stub
    secrets_provider.cache_clear()


def refuses(manager, code, status):
    manager.add_client_error("get_secret_value", code, "It says hunter2.", http_status_code=status)


def fails(error):
    with pytest.raises(error, match="prod/totesys") as failure:
        get_credentials("prod/totesys")
    assert type(failure.value) is error
    assert "hunter2" not in str(failure.value)
    return str(failure.value)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ThrottlingException", 400),
        ("ThrottledException", 400),
        ("Throttling", 400),
        ("RequestThrottled", 400),
        ("RequestThrottledException", 429),
        ("InternalServiceError", 500),
        ("ServiceUnavailable", 503),
        ("TooManyRequestsException", 429),
        ("TooManyRequestsException", 400),
        ("RequestLimitExceeded", 400),
        ("SlowDown", 400),
        ("RequestTimeoutException", 400),
    ],
)
def test_overload_is_worth_another_try(manager, code, status):
    refuses(manager, code, status)
    assert "Secrets Manager does not answer" in fails(LandingUnavailableError)


@pytest.mark.parametrize(
    "code",
    [
        *("ResourceNotFoundException", "AccessDeniedException", "InvalidRequestException"),
        *("DecryptionFailure", "UnrecognizedClientException", "ExpiredTokenException"),
    ],
)
def test_a_refusal_is_a_fault_of_the_deployment(manager, code):
    refuses(manager, code, 400)
    message = fails(ConfigError)
    assert code in message
    assert "secretsmanager:GetSecretValue" in message


def test_a_secret_that_is_no_text_is_malformed(manager):
    manager.add_response("get_secret_value", {"SecretBinary": json.dumps(SECRET).encode()})
    assert "is not a JSON object" in fails(ConfigError)


def test_a_secret_is_kept_until_it_is_wanted_afresh(manager):
    for password in ("hunter2", "hunter3"):
        text = json.dumps(SECRET | {"password": password})
        manager.add_response("get_secret_value", {"SecretString": text})
    passwords = [
        get_credentials("s", fresh=fresh).password for fresh in (False, False, True, False)
    ]
    assert passwords == ["hunter2", "hunter2", "hunter3", "hunter3"]
    manager.assert_no_pending_responses()
