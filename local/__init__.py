"""The local stage: AWS and Totesys stood in for on one machine, without any code of the service."""

from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
