"""dlt's incremental load of one table to JSON lines; run by the Python of the peers' venv.

For each line on standard input it runs once, and prints the ids that it loaded as JSON.
Arguments: SQLAlchemy URL, table, id column, folder.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dlt
from dlt.sources.sql_database import sql_table

if TYPE_CHECKING:
    from collections.abc import Iterator


def make_pipeline(folder: Path) -> Any:
    """Return a pipeline that lands what it loads in a folder."""
    return dlt.pipeline(
        "storm",
        pipelines_dir=str(folder / "state"),
        destination=dlt.destinations.filesystem(bucket_url=str(folder / "landed")),
        dataset_name="totesys",
    )


def load(pipeline: Any, url: str, table: str, id_column: str) -> int:
    """Load the rows that are new, in the order of their ids; return how many they are."""
    incremental = dlt.sources.incremental(id_column, row_order="asc")
    source = sql_table(credentials=url, table=table, incremental=incremental)
    source.max_table_nesting = 0  # an array is a member of its row, not a table of its own
    pipeline.run(source, loader_file_format="jsonl", write_disposition="append")
    counts: dict[str, int] = pipeline.last_trace.last_normalize_info.row_counts
    return counts.get(table, 0)


def landed(folder: Path, table: str) -> Iterator[bytes]:
    """Yield the content of each file that has landed; dlt compresses them by default."""
    for file in sorted((folder / "landed" / "totesys" / table).glob("*.jsonl*")):
        packed = file.read_bytes()
        yield gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed


def main(url: str, table: str, id_column: str, folder: Path) -> None:
    """Load whenever told to."""
    pipeline = make_pipeline(folder)
    done = 0
    print(json.dumps(dlt.__version__), flush=True)
    for _ in sys.stdin:
        load(pipeline, url, table, id_column)
        files = list(landed(folder, table))
        ids = [json.loads(line)[id_column] for file in files[done:] for line in file.splitlines()]
        done = len(files)
        print(json.dumps(ids), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
