"""The environment that peers run in; they would clash with ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".venv-peers"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def peers_python() -> Path | None:
    """Return the Python that has the peers, installed if need be; None where they can't be."""
    python, stamp = FOLDER / "bin" / "python", FOLDER / "installed"
    if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
        try:
            subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
            subprocess.run([python, "-m", "pip", "install", "-q", "-r", REQUIREMENTS], check=True)
        except subprocess.CalledProcessError as error:
            print(f"Peers are left out: {error}", file=sys.stderr)
            return None
        stamp.write_text(REQUIREMENTS.read_text())
    return python
