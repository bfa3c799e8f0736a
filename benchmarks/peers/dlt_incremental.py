"""dlt's incremental load of one table to JSON lines; run by the Python of the peers' venv.

For each line on standard input it runs once, and prints as JSON how many `seconds` that took, and
the `ids` it loaded.
Arguments: SQLAlchemy URL, table, id column, folder.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path

import dlt
from dlt.sources.sql_database import sql_table


def main(url: str, table: str, id_column: str, folder: Path) -> None:
    """Load whenever told to."""
    pipeline = dlt.pipeline(
        "storm",
        pipelines_dir=str(folder / "state"),
        destination=dlt.destinations.filesystem(bucket_url=str(folder / "landed")),
        dataset_name="totesys",
    )
    seen: set[Path] = set()
    print(json.dumps(dlt.__version__), flush=True)
    for _ in sys.stdin:
        source = sql_table(
            credentials=url, table=table, incremental=dlt.sources.incremental(id_column)
        )
        begun = time.perf_counter()
        pipeline.run(source, loader_file_format="jsonl", write_disposition="append")
        seconds = time.perf_counter() - begun
        files = set((folder / "landed" / "totesys" / table).glob("*.jsonl*")) - seen
        seen |= files
        ids = [row[id_column] for file in sorted(files) for row in rows(file)]
        print(json.dumps({"seconds": seconds, "ids": ids}), flush=True)


def rows(file: Path) -> list[dict[str, int]]:
    """Return the rows of a file, which dlt compresses by default."""
    packed = file.read_bytes()
    text = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
    return [json.loads(line) for line in text.splitlines()]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
