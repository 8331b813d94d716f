"""The package's order: imports point down one list, and heavy libraries stay where they belong."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fishcli"

# Each may import those below it; what stands on one line may not import each other.
ORDER = [
    ["cli"],
    ["bench"],
    ["testing"],
    ["doctor"],
    ["config"],
    ["client", "jobs", "server", "webui"],
    ["voices"],
    ["engine"],
    ["runners"],
    ["native"],
    ["codec"],
    ["lm"],
    ["checkpoints"],
    ["audio"],
    ["text"],
    ["request"],
    ["files", "threads", "zips"],
    ["errors"],
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
ONLY_IN = {
    "torch": {"checkpoints", "lm", "codec", "native", "runners", "engine", "doctor", "bench", "testing"},
    "typer": {"cli"},
    "rich": {"cli"},
    "fastapi": {"server", "webui"},
    "starlette": {"server", "webui"},
    "uvicorn": {"server"},
    "gradio": {"webui"},
    "ray": {"jobs"},
}


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem[0] != "_")


def home(path: Path) -> str:
    """The entry of ORDER that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """Dotted names of everything a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = home(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "fishcli" and len(parts) > 1 and parts[1] in RANK and parts[1] != here:
            assert RANK[parts[1]] > RANK[here], f"{here} must not import {parts[1]}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_stay_where_they_belong(path):
    for name in {name.split(".")[0] for name in imported(path)} & ONLY_IN.keys():
        assert home(path) in ONLY_IN[name], f"{home(path)} must not import {name}"


def test_every_module_has_its_place():
    assert {home(path) for path in modules()} <= RANK.keys()
