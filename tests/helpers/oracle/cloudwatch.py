"""The declared metric filters of CloudWatch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_RESOURCES = Path(__file__).resolve().parents[3] / "resources"


def metric_filters() -> dict[str, dict[str, Any]]:
    """Return the properties of the metric filters in resources/, by name."""
    return {
        name: resource["Properties"]
        for path in sorted(_RESOURCES.glob("*.yml"))
        for name, resource in yaml.safe_load(path.read_text()).items()
        if isinstance(resource, dict) and resource.get("Type") == "AWS::Logs::MetricFilter"
    }
