"""What serverless.yml declares for a stage, as `sls` would resolve it; before it is deployed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import yaml

from local import REPOSITORY
from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLE: Final = re.compile(r"\$\{([^{}]+)\}")


def parameters(stage: str, region: str) -> dict[str, str]:
    """Return the parameters of a stage by their names; what only `sls` can resolve stays as it is.

    >>> parameters("dev", "eu-west-2")["databaseSecret"]
    'dev/totesys'
    """
    declared = _read("serverless.yml")["params"]
    known = {"sls:stage": stage, "aws:region": region}
    of_stage = declared["default"] | (declared.get(stage) or {})
    return {name: _resolved(str(value), known) for name, value in of_stage.items()}


def variables(stage: str, region: str) -> dict[str, str]:
    """Return the environment variables that the function `ingest` would have.

    Raises:
        ConfigError: one of them can't be resolved here.
    """
    known = {f"param:{name}": value for name, value in parameters(stage, region).items()}
    known |= {"sls:stage": stage, "aws:region": region}
    declared = _read("services/environment.yml")["ingest"]
    found = {name: _resolved(str(value), known) for name, value in declared.items()}
    if unknown := [name for name, value in found.items() if "${" in value]:
        raise ConfigError(
            f"Only `sls` can resolve {', '.join(unknown)} in serverless.yml. "
            "Write the values themselves into `params`, or deploy first."
        )
    return found


def _read(path: str) -> Any:
    return yaml.safe_load((REPOSITORY / path).read_text())


def _resolved(text: str, known: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: known.get(found[1], found[0]), text)
