"""The house: every package is listed, and the arrows between its parts run one way."""

import ast
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[2]
# What each part may import of the others.
MAY_IMPORT = {
    "runtime": set(),
    "models": {"runtime"},
    "export": {"models", "runtime"},
    "tools": {"export", "models", "runtime"},
}
TRAINING_ONLY = {"torch", "onnxscript", "pesq", "pystoi", "joblib", "matplotlib"}


def settings() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def imported_modules(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, anywhere in it; relative imports are resolved."""
    package = ("hearloop", *path.relative_to(ROOT).parent.parts)
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join((*base, *(node.module.split(".") if node.module else ())))
            modules |= {name} | {f"{name}.{alias.name}" for alias in node.names}
    return modules


def parts_imported(path: Path) -> set[str]:
    names = [module.split(".") for module in imported_modules(path)]
    return {name[1] for name in names if name[0] == "hearloop" and len(name) > 1}


def sources(part: str) -> list[Path]:
    found = sorted((ROOT / part).rglob("*.py"))
    assert found
    return found


def test_every_folder_with_an_init_file_is_a_listed_package():
    folders = {
        ".".join(("hearloop", *path.parent.relative_to(ROOT).parts))
        for part in MAY_IMPORT
        for path in sources(part)
        if path.name == "__init__.py"
    }
    assert set(settings()["packages"]) == folders


def test_every_folder_with_python_files_is_a_package():
    without = {path.parent for part in MAY_IMPORT for path in sources(part)}
    assert [folder for folder in sorted(without) if not (folder / "__init__.py").is_file()] == []


def test_the_top_level_folders_are_mapped_onto_the_parts():
    assert settings()["package-dir"] == {f"hearloop.{part}": part for part in MAY_IMPORT}


def test_the_reader_of_imports_sees_relative_and_nested_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "runtime" / "deep" / "module.py"
    path.parent.mkdir(parents=True)
    path.write_text("def f():\n    from ...models import x\n    import torch.nn\n    from .. import errors\n")
    assert parts_imported(path) == {"models", "runtime"}
    assert "torch.nn" in imported_modules(path)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_what_stands_below_it(part):
    wrong = {
        str(path.relative_to(ROOT)): sorted(others)
        for path in sources(part)
        if (others := parts_imported(path) - {part} - MAY_IMPORT[part])
    }
    assert wrong == {}


def test_the_runtime_names_no_package_of_the_extras():
    wrong = {
        path.name: sorted(found)
        for path in sources("runtime")
        if (found := {module.split(".")[0] for module in imported_modules(path)} & TRAINING_ONLY)
    }
    assert wrong == {}


def test_only_the_compiler_parses_onnx():
    """A stream that finds its machine code in the cache must start without the parser."""
    compiler = ROOT / "runtime" / "compiler"
    parsing = {
        path for path in sources("runtime") if any(name.split(".")[0] == "onnx" for name in imported_modules(path))
    }
    assert {path for path in parsing if compiler not in path.parents} == set()
    assert compiler / "read.py" in parsing
