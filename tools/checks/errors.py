"""The errors of AWS and of the service, as findings: the other side's words, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import explained

if TYPE_CHECKING:
    from collections.abc import Iterator

# Each service has its own. An answer to a HEAD has no body, and so no code but the status.
_DENIED = {
    *("AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"),
    "403",
}


def client_error(error: BaseException) -> ClientError | None:
    """Return AWS's error: the error itself, or the cause of one of ours."""
    return next((each for each in _causes(error) if isinstance(each, ClientError)), None)


def code_of(error: BaseException) -> str:
    """Return the code of AWS's error, empty if it is none."""
    found = client_error(error)
    return found.response["Error"].get("Code", "") if found else ""


def is_denied(error: BaseException) -> bool:
    """Tell whether AWS refused because the caller lacks a permission."""
    return code_of(error) in _DENIED


def said_by(error: Exception) -> tuple[str, str]:
    """Return what an error says, and what to do about it."""
    if isinstance(error, ClientError):
        said = error.response["Error"]
        return (
            f"{said.get('Code')}: {said.get('Message', 'no message')}",
            f"AWS refuses {error.operation_name}: look up the code in the service's API reference.",
        )
    if isinstance(error, BotoCoreError):
        return str(error), "Check the network, the region and the credentials."
    # Ours end with what to do.
    detail, _, remedy = str(explained(error)).partition(". ")
    return detail, remedy or "The message says what is wrong."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
