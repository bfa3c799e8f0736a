"""Who may import whom, as the layout promises."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "services.ingestion"
ALLOWED = {
    "handler": {"ingest", "replay", "tables"},
    "replay": {"source", "contracts", "positions", "keys", "tables"},
    "ingest": {
        *{"source", "landing", "positions", "progress", "tables"},
        *{"survey", "changes", "scans", "contracts", "table_run", "reading"},
    },
    "reading": {"source"},
    "table_run": {"contracts", "positions", "progress", "scans"},
    "scans": {"batches", "source", "versions", "changes", "contracts", "marks", "keys"},
    "survey": {"marks", "tables"},
    "versions": {"batches", "marks", "tables"},
    "changes": {"keys", "marks"},
    "marks": set(),
    "source": {"batches", "columns", "tables"},
    "batches": {"columns", "tables"},
    "landing": {"positions", "keys", "tables"},
    "positions": {"keys"},
    "contracts": {"columns", "schema", "survey", "tables"},
    "schema": set(),
    "columns": set(),
    "keys": set(),
    "progress": set(),
    "tables": set(),
    "__init__": {"landing", "source"},
}

RECONCILIATION = {
    "handler": {"ingestion.tables", "reconcile", "report"},
    "reconcile": {
        *{"landed", "objects", "source"},
        *{f"ingestion.{name}" for name in ("changes", "keys", "marks", "positions", "survey")},
    },
    "landed": {"objects", "ingestion.keys", "ingestion.positions", "ingestion.tables"},
    "source": {
        *{"objects"},
        *{f"ingestion.{name}" for name in ("batches", "marks", "tables", "versions")},
    },
    "report": {"objects", "reconcile", "ingestion.keys"},
    "objects": set(),
    "__init__": set(),
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def test_dependencies_point_one_way():
    for path in sorted((ROOT / "services/ingestion").glob("*.py")):
        modules = {
            name.removeprefix(f"{SERVICE}.").split(".")[0]
            for name in imports(path)
            if name.startswith(f"{SERVICE}.")
        }
        assert modules <= ALLOWED[path.stem], path.name


def test_the_reconcile_knows_how_rows_land_and_not_the_other_way_round():
    for path in sorted((ROOT / "services/reconciliation").glob("*.py")):
        names = {name for name in imports(path) if name.startswith("services.")}
        ours = {name.removeprefix("services.reconciliation.").split(".")[0] for name in names}
        theirs = {".".join(name.split(".")[1:3]) for name in names if ".ingestion" in name}
        allowed = RECONCILIATION[path.stem] | {"services", "ingestion"}
        assert ours | theirs <= allowed, path.name
    for path in (ROOT / "services/ingestion").rglob("*.py"):
        assert not [name for name in imports(path) if "reconciliation" in name]


# What each folder may not import. `local` is an independent oracle: a fault of the service must not
# be in what the service is compared with. What it shows of `tools`, it runs as a command.
FORBIDDEN = {
    "shared": {"services", "local", "tools", "tests", "benchmarks"},
    "services": {"local", "tools", "tests", "benchmarks"},
    "local": {"services", "shared", "tools", "tests", "benchmarks"},
    "tools": {"tests", "benchmarks"},
}


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_folders_import_only_what_they_may(folder):
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    for path in paths:
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & FORBIDDEN[folder], path.relative_to(ROOT)


def test_the_run_knows_neither_boto3_nor_pg8000():
    tree = ast.parse((ROOT / "services/ingestion/ingest.py").read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    at_run_time = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)] + [
        name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names
    ]
    assert not {"boto3", "botocore", "pg8000"} & {name.split(".")[0] for name in at_run_time}
    assert not {"boto3", "botocore", "pg8000"} & names


def test_the_reconcile_does_without_pandas():
    script = "import sys, services.reconciliation.handler; print('pandas' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize("module", ["services.ingestion", "services.ingestion.handler"])
def test_pandas_is_not_imported_before_a_table_has_rows(module):
    script = f"import sys, {module}; print(sorted({{'pandas', 'numpy'}} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_the_three_functions_are_importable_from_the_service():
    import services.ingestion as service

    assert Path(service.__file__).is_relative_to(ROOT)
    assert sorted(service.__all__) == ["get_latest_id", "get_table_data", "write_table_data"]
    assert all(callable(getattr(service, name)) for name in service.__all__)
