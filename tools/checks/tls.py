"""Certificates: those of the authorities in a stage's CA file, and that of the database."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from shared.postgres.session import ROOT
from tools.checks.check import Finding, failed, ok, skipped, warning

if TYPE_CHECKING:
    from tools.checks.source import Source
    from tools.checks.stage import Stage

WARN_DAYS: Final = 90


def authorities(stage: Stage) -> Finding:
    """Look into the CA file."""
    path = stage.settings.db_ca_file
    remedy = "Put the certificates of the database's issuer there, or fix databaseCaFile."
    try:
        found: list[Any] = ssl.create_default_context(cafile=ROOT / path).get_ca_certs()
    except OSError as error:
        return failed(f"no certificates in {path}: {error.strerror or error}", remedy)
    return judge_authorities(path, [_end(each) for each in found], datetime.now(UTC))


def judge_authorities(path: str, ends: list[datetime], now: datetime) -> Finding:
    """Judge when the authorities in a CA file expire; one that has expired is not missed."""
    remedy = f"Add the newer certificates of the database's issuer to {path}, and deploy."
    valid = [end for end in ends if end > now]
    if not valid:
        return failed(f"every authority in {path} has expired", remedy)
    first = min(valid)
    if first < now + timedelta(days=WARN_DAYS):
        return warning(f"one in {path} expires on {first:%Y-%m-%d}", remedy)
    return ok(f"{len(valid)} in {path}, until {first:%Y-%m-%d}")


def certificate(source: Source) -> Finding:
    """Look at the certificate that the database has shown."""
    session = source.connection._usock
    if not isinstance(session, ssl.SSLSocket):
        return skipped("reached by a unix socket, which needs no TLS")
    return judge_certificate(_end(session.getpeercert() or {}), datetime.now(UTC))


def judge_certificate(end: datetime, now: datetime) -> Finding:
    """Judge when a certificate expires that is valid now."""
    if end < now + timedelta(days=WARN_DAYS):
        return warning(
            f"it expires on {end:%Y-%m-%d}",
            "Renew it. RDS renews it by itself, some only when they restart.",
        )
    return ok(f"verified, until {end:%Y-%m-%d}")


def _end(certificate: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)


OF_STAGE: Final = {"certificate authorities": authorities}
OF_SOURCE: Final = {"certificate": certificate}
