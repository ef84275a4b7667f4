"""Which package may import which: one table, without circles, and the code keeps to the table."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from stackfile.catalogue import ROOT

# Every import between folders of the project, also of those inside functions. `tests` is imported by none.
ALLOWED: dict[str, set[str]] = {
    "stackfile": set(),
    "gateway": set(),
    "serving": set(),
    "policies": set(),
    "model_loader": {"serving", "stackfile"},
    "monitoring": {"stackfile"},
    "infra": {"monitoring", "stackfile"},
    "assist": {"gateway", "model_loader", "monitoring", "stackfile"},
    "ansible": {"assist", "stackfile"},
    "scripts": {"assist", "gateway", "monitoring", "stackfile"},
    "testing": {"gateway", "infra", "serving", "stackfile"},
    "benchmarks": {"gateway", "infra", "serving", "stackfile", "testing"},
}
# The gateway's own layers, lowest first: a part imports only from layers before its own. The queue's half of the
# jobs is below the routes, the worker above them.
LAYERS: tuple[set[str], ...] = (
    {"variables"},
    {"caller", "errors", "merge", "redis_client", "settings"},
    {"telemetry"},
    {"body", "engine", "error_responses", "jobs", "model_names", "responses"},
    {"admission", "auth", "http", "text"},
    {"completion"},
    {"dialects", "edge", "wiring"},
    {"app", "worker"},
    {"__main__"},
)


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every absolute import; ``from a import b`` as ``a.b``."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def package_edges(root: Path) -> Iterator[tuple[str, str, str]]:
    """Yield importing folder, imported folder, and place of every import between the project's folders."""
    for package in ALLOWED:
        for file in sorted((root / package).rglob("*.py")):
            for line, name in imports(file):
                target = name.partition(".")[0]
                # `ansible` is Ansible itself: its plugins are imported by nobody.
                if target in {*ALLOWED, "tests"} - {package, "ansible"}:
                    yield package, target, f"{file.relative_to(root)}:{line}"


def gateway_edges(root: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the same between the parts of the gateway: its modules and sub-packages."""
    for file in sorted((root / "gateway").rglob("*.py")):
        part = file.relative_to(root / "gateway").parts[0].removesuffix(".py")
        for line, name in imports(file):
            if name.startswith("gateway.") and (target := name.split(".")[1]) != part:
                yield part, target, f"{file.relative_to(root)}:{line}"


def violations(root: Path) -> list[str]:
    """Return every import that the tables do not allow."""
    level = {part: number for number, parts in enumerate(LAYERS) for part in parts}
    packages = [
        f"{place}: {package} imports {target}"
        for package, target, place in package_edges(root)
        if target not in ALLOWED[package]
    ]
    parts = [
        f"{place}: gateway.{part} imports gateway.{target}"
        for part, target, place in gateway_edges(root)
        if level[target] >= level[part]
    ]
    return packages + parts


def test_no_package_imports_what_its_row_does_not_name():
    assert violations(ROOT) == []


def test_the_table_has_no_circle_and_names_only_imports_that_exist():
    TopologicalSorter(ALLOWED).prepare()
    used = {(package, target) for package, target, _ in package_edges(ROOT)}
    assert used == {(package, target) for package, targets in ALLOWED.items() for target in targets}


def test_every_folder_with_python_has_a_row_and_every_part_of_the_gateway_a_layer():
    folders = {file.parent.name for file in ROOT.glob("*/*.py")} | {"ansible"}
    assert folders - {"tests"} <= set(ALLOWED)
    parts = {
        path.name.removesuffix(".py") for path in (ROOT / "gateway").iterdir() if path.suffix in {"", ".py"}
    }
    assert set().union(*LAYERS) == parts - {"__init__", "__pycache__"}


@pytest.mark.parametrize(
    ("file", "code", "said"),
    [
        ("stackfile/checks.py", "import serving.backend", "stackfile imports serving"),
        ("stackfile/checks.py", "def f():\n    from gateway import app", "stackfile imports gateway"),
        ("assist/cli.py", "from infra.render import render", "assist imports infra"),
        ("benchmarks/bench.py", "from tests.integration.hosts import lab", "benchmarks imports tests"),
        ("testing/lab/driver.py", "import tests", "testing imports tests"),
        (
            "gateway/jobs/store.py",
            "from gateway.dialects import openai",
            "gateway.jobs imports gateway.dialects",
        ),
        ("gateway/jobs/store.py", "from gateway import worker", "gateway.jobs imports gateway.worker"),
        (
            "gateway/engine/base.py",
            "import gateway.completion.types",
            "gateway.engine imports gateway.completion",
        ),
        (
            "gateway/dialects/jobs.py",
            "from gateway.worker.items import run",
            "gateway.dialects imports gateway.worker",
        ),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, file, code, said):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(code + "\n")
    (violation,) = violations(tmp_path)
    assert violation.startswith(f"{file}:")
    assert violation.endswith(said)
