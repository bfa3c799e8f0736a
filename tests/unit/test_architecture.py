"""Who may import whom, as the layout promises."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Dependencies point down: a module imports only modules on a lower line.
INGESTION = (
    {"handler"},
    {"finish", "plan"},
    {"run", "restores"},
    {"table", "replays", "items"},
    {"read_ahead", "claimed", "land", "change_scan", "standing"},
    {"comparing", "loads", "new_rows", "summary"},
    {"writers"},
)
RECONCILIATION = (
    {"handler"},
    {"table", "report"},
    {"comparison"},
    {"said", "corrections", "findings", "values"},
    {"chain"},
    {"landed", "source_ids", "store", "streams"},
    {"inventory"},
    {"digests", "listing"},
    {"contents"},
    {"ids"},
)
CHECKS = (
    {
        "functions",
        "runs",
        "alarms",
        "bucket",
        "secret",
        "session",
        "server",
        "rights",
        "ids",
        "tls",
    },
    {"source", "stack"},
    {"facts", "stage"},
    {"account"},
    {"check"},
    {"permissions"},
    {"errors"},
)
# What a room of `shared` may reach of the others; its own modules it may reach, too.
PLAIN = {
    *("errors", "telemetry", "settings", "clients", "tables", "snapshot", "events", "declaration"),
    *("json_values", "jsonlines", "lines", "json_reader", "personal", "hashes", "prints"),
}
ROOMS = {
    "postgres": PLAIN,
    "bucket": PLAIN | {"contracts"},
    "contracts": PLAIN | {"postgres"},  # only the names of types, see below
}
TYPES_ONLY = {
    "contracts": ("shared.postgres",),
    "bucket": ("shared.json_values", "shared.jsonlines", "shared.contracts"),  # they import pandas
}
# What makes DataFrames of what landed; see the doors of pandas below.
READING = {"shared/bucket/reading.py", "shared/bucket/last_words.py"}


def modules_in(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path, *, at_run_time: bool = False) -> set[str]:
    """Return the modules, and names of modules, that a file imports anywhere."""
    tree = ast.parse(path.read_text())
    if at_run_time:
        tree.body = [node for node in tree.body if not is_for_types(node)]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@pytest.mark.parametrize(
    ("folder", "floors"),
    [
        ("services/ingestion", INGESTION),
        ("services/reconciliation", RECONCILIATION),
        ("tools/checks", CHECKS),
    ],
)
def test_dependencies_point_down(folder, floors):
    package = f"{folder.replace('/', '.')}."
    modules = {path.stem: path for path in modules_in(folder)}
    assert set().union(*floors, {"__init__"}) == modules.keys()
    for number, floor in enumerate(floors):
        below = set().union(*floors[number + 1 :])
        for module in floor:
            names = {name for name in imports(modules[module]) if name.startswith(package)}
            assert {name.removeprefix(package).split(".")[0] for name in names} <= below, module


def test_no_service_imports_another():
    services = [path.name for path in (ROOT / "services").iterdir() if path.is_dir()]
    for service in services:
        others = tuple(f"services.{other}" for other in services if other != service)
        for path in modules_in(f"services/{service}"):
            assert not [name for name in imports(path) if name.startswith(others)], path


# What each folder may not import. `local` is an independent oracle: a fault of the service must not
# be in what the service is compared with. What it shows of `tools`, it runs as a command.
FORBIDDEN = {
    "shared": {"services", "local", "tools", "tests", "benchmarks"},
    "services": {"local", "tools", "tests", "benchmarks"},
    "local": {"services", "shared", "tools", "tests", "benchmarks"},
    "tools": {"tests", "benchmarks"},
    "benchmarks": {"tests", "tools"},
}


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_folders_import_only_what_they_may(folder):
    paths = modules_in(folder)
    assert paths
    for path in paths:
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & FORBIDDEN[folder], path.relative_to(ROOT)


@pytest.mark.parametrize("room", ROOMS)
def test_the_rooms_of_shared_reach_one_system_each(room):
    for path in modules_in(f"shared/{room}"):
        names = {name for name in imports(path) if name.startswith("shared.")}
        assert {name.split(".")[1] for name in names} - {room} <= ROOMS[room], path
        at_run_time = imports(path, at_run_time=True)
        if room in TYPES_ONLY and str(path.relative_to(ROOT)) not in READING:
            assert not [name for name in at_run_time if name.startswith(TYPES_ONLY[room])], path


def test_every_module_of_shared_is_in_a_room_or_reaches_no_room():
    for path in (ROOT / "shared").glob("*.py"):
        assert path.stem in PLAIN | {"__init__"}
        names = {name.split(".")[1] for name in imports(path) if name.startswith("shared.")}
        assert not names & ROOMS.keys(), path


def test_each_package_of_shared_says_what_it_is_for():
    for path in [ROOT / "shared/__init__.py", *(ROOT / f"shared/{r}/__init__.py" for r in ROOMS)]:
        assert ast.get_docstring(ast.parse(path.read_text())), path


@pytest.mark.parametrize(
    ("modules", "rooms"),
    [
        ({"boto3", "botocore"}, ("shared/bucket", "shared/clients.py", "shared/postgres")),
        ({"pg8000"}, ("shared/postgres", "services/ingestion/new_rows.py",
                      "services/ingestion/writers.py", "services/reconciliation/source_ids.py")),
    ],
    ids=["S3", "PostgreSQL"],
)  # fmt: skip
def test_only_some_rooms_know_a_system(modules, rooms):
    for folder in ("services", "shared"):
        for path in modules_in(folder):
            known = {name.split(".")[0] for name in imports(path, at_run_time=True)} & modules
            allowed = str(path.relative_to(ROOT)).startswith(rooms)
            assert not known or allowed, path


# Who reads rows must say which columns are personal data, or they land as they are.
READS = {"read_description", "read_new_rows", "read_settled_rows", "read_settled_parts"}


def test_a_service_reads_no_rows_without_saying_what_is_personal_data():
    calls = [
        (path.name, call)
        for folder in ("services", "tools/contract.py")
        for path in (modules_in(folder) or [ROOT / folder])
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in READS
    ]
    assert len(calls) >= 7
    assert [where for where, call in calls if "personal" not in ast.unparse(call)] == []


def test_rows_as_they_are_in_the_source_are_for_checks_only():
    """Else one that lands them is not seen: `rows` of a batch are the rows as they land."""
    reading = {
        str(path.relative_to(ROOT))
        for folder in ("services", "shared")
        for path in modules_in(folder)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "source"
    }
    assert reading == {
        "services/ingestion/new_rows.py", "shared/contracts/check.py", "shared/postgres/reader.py"
    }  # fmt: skip


def test_no_module_is_called_like_a_public_function():
    for folder in ("services", "shared"):
        paths = modules_in(folder)
        functions = {
            node.name
            for path in paths
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        }
        assert not functions & {path.stem for path in paths}


def lazy_imports(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    return [
        ast.unparse(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef)
        for node in ast.walk(outer)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def test_pandas_has_few_doors():
    """What is imported late: where rows are landed, replayed, corrected or read."""
    found = {
        str(path.relative_to(ROOT)): lazy_imports(path)
        for folder in ("services", "shared")
        for path in modules_in(folder)
        if lazy_imports(path)
    }
    assert found.keys() == {
        "services/ingestion/run.py",
        "services/ingestion/handler.py",
        "services/reconciliation/corrections.py",
        "services/reconciliation/values.py",
        "shared/bucket/__init__.py",
    }


def imported(statement: str) -> set[str]:
    """Return which of some heavy modules a statement imports, in a process of its own."""
    heavy = {"pandas", "numpy", "pg8000", "boto3"}
    script = f"import sys; {statement}; print(*({heavy!r} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(found.stdout.split())


def test_the_reconciliation_does_without_pandas():
    assert "pandas" not in imported("import services.reconciliation.handler")


@pytest.mark.parametrize(
    "module", ["services.ingestion", "services.ingestion.handler", "shared.bucket"]
)
def test_pandas_is_not_imported_before_a_table_has_rows(module):
    assert not imported(f"import {module}") & {"pandas", "numpy"}


def test_a_service_that_reads_the_bucket_only_needs_no_driver_and_no_secret():
    statement = "import shared.bucket.position, shared.clients, shared.settings"
    assert "pg8000" not in imported(statement)
    assert "pg8000" not in imported("from shared.bucket import read_new")
    from shared.settings import BucketSettings

    settings = BucketSettings.from_env({"BUCKET_NAME": "prod-ingestion-bucket"})
    assert settings.bucket_name == "prod-ingestion-bucket"


@pytest.mark.parametrize(
    ("service", "names"),
    [
        (
            "services.ingestion",
            {"get_latest_id", "get_table_data", "write_table_data", "ingest", "Limits", "replay"},
        ),
        ("services.reconciliation", {"reconcile"}),
        ("shared.bucket", {"read_new"}),
    ],
)
def test_the_public_face(service, names):
    package = __import__(service, fromlist=sorted(names))
    assert Path(str(package.__file__)).is_relative_to(ROOT)
    assert names <= set(package.__all__)
    assert all(callable(getattr(package, name)) for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing
