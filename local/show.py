"""What has landed on the stage of `make local`: by table, a table's keys, or one object.

Paste the `export` lines first that `make local` prints.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local.aws.template import physical_names
from local.console import print_table, table
from local.landed import Landed
from local.stage import BUCKET, STACK

if TYPE_CHECKING:
    from collections.abc import Sequence

_LATEST = "/latest.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what has landed."""
    parser = argparse.ArgumentParser(prog="python -m local.show", description=__doc__)
    parser.add_argument("what", nargs="?", help="a table, or a key; by default all tables")
    what = parser.parse_args(arguments).what
    if "AWS_ENDPOINT_URL" not in os.environ:
        sys.exit("AWS_ENDPOINT_URL is not set: paste the lines that `make local` prints.")
    try:
        names = physical_names(boto3.client("cloudformation"), STACK)
        show(Landed(boto3.client("s3"), names[BUCKET]), what)
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"{os.environ['AWS_ENDPOINT_URL']}: {error} Is `make local` still running?")
    return 0


def show(landed: Landed, what: str | None) -> None:
    """Print an overview, the keys of a table, or an object."""
    keys = landed.all_keys()
    if what in keys:
        sys.stdout.write(landed.read(what).decode())
    elif what:
        found = [key for key in keys if key.startswith((f"{what}/", f"changes/{what}/"))]
        if not found:
            sys.exit(f"Nothing has landed as {what}. See `python -m local.show`.")
        print(*found, sep="\n")
    else:
        print_table(_overview(landed, keys))


def _overview(landed: Landed, keys: Sequence[str]) -> list[str]:
    rows = []
    for name in (key.removesuffix(_LATEST) for key in keys if key.endswith(_LATEST)):
        if "/" in name:  # the change stream's own
            continue
        changes = sum(key.startswith(f"changes/{name}/") and key.endswith(".jsonl") for key in keys)
        latest = landed.latest(name) or {}
        objects = landed.keys(name)
        watermark = f"{latest.get('latest_row_id', 0):,}"
        rows.append((name, watermark, f"{len(objects):,}", f"{changes:,}", (objects or ["-"])[-1]))
    return table(("table", "watermark", "objects", "change objects", "last batch"), rows, (0, 4))


if __name__ == "__main__":
    sys.exit(main())
