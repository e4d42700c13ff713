"""What `pip install .` gives, tried with a real wheel in a fresh environment.

Only its dependencies are borrowed, from the environment that runs the tests.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("runtime", "models", "export", "tools")
VERBS = ("live", "process", "demo", "models", "inspect", "devices", "doctor", "train", "evaluate", "export")

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that neither old build folders nor this checkout matter."""
    copy = tmp_path_factory.mktemp("source") / "hearloop"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, copy)
    for part in PARTS:
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), str(copy)]
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *build], check=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Run:
    """Runs a command of an environment that holds the wheel, far from the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    environment = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    install = ["--python", str(scripts / "python"), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    site_packages = sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)})
    # Paths in a .pth file are searched after the environment's own, and .pth files found there are not read: the
    # editable install of this checkout stays out of sight.
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(site_packages, "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}

    def run(command: str, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(scripts / command), *arguments], cwd=folder, env=variables, capture_output=True, text=True, timeout=300
        )

    return run


def python(installed: Run, code: str):
    """Value of the last line that a piece of Python prints, as JSON."""
    done = installed("python", "-c", code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_wheel_holds_the_data_files(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    bundles = {f"hearloop/runtime/bundles/{path.name}" for path in (ROOT / "runtime" / "bundles").glob("*.onnx")}
    recordings = {f"hearloop/tools/recordings/{path.name}" for path in (ROOT / "tools" / "recordings").iterdir()}
    assert recordings
    assert bundles | recordings <= names


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    modules = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    assert modules == {f"hearloop/{path.relative_to(ROOT)}" for part in PARTS for path in (ROOT / part).rglob("*.py")}


def test_the_wheel_carries_licence_and_notice(wheel):
    names = {Path(name).name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" in name}
    assert {"LICENSE", "NOTICE"} <= names


def test_the_installed_package_is_the_one_that_runs(installed):
    where = python(installed, "import json, hearloop.runtime as r; print(json.dumps(r.__file__))")
    assert ROOT not in Path(where).parents
    assert "site-packages" in where


def test_the_command_lists_its_verbs(installed):
    done = installed("hearloop", "--help")
    assert done.returncode == 0, done.stderr
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ") and line.strip()]
    assert set(VERBS) <= set(listed)


def test_importing_the_runtime_imports_neither_torch_nor_onnx(installed):
    loaded = python(
        installed, "import sys, json; from hearloop.runtime import *; print(json.dumps(sorted(sys.modules)))"
    )
    assert "onnxruntime" in loaded
    assert {"torch", "onnx", "onnxscript", "matplotlib"} & set(loaded) == set()
    assert [name for name in loaded if name.startswith(("hearloop.models", "hearloop.export", "hearloop.tools"))] == []


def test_the_verbs_of_every_day_need_no_torch(installed):
    code = (
        "import sys, json\nfrom hearloop.tools.main import build_parser\n"
        "for verb in ('live', 'process', 'demo', 'models', 'inspect', 'devices', 'doctor'): build_parser(verb)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = python(installed, code)
    assert "hearloop.tools.live" in loaded
    assert {"torch", "onnx", "onnxscript"} & set(loaded) == set()


def test_the_shipped_bundles_are_found_and_read(installed):
    files = [path.stem for path in (ROOT / "runtime" / "bundles").glob("*.onnx")]
    shipped = sorted(name for name in files if not name.endswith("-steering"))
    code = (
        "import json, hearloop.runtime as r; print(json.dumps([r.load_bundle(n).info.name for n in r.bundle_paths()]))"
    )
    assert python(installed, code) == shipped
    assert "enhance-small" in shipped
    assert {f"{name}-steering" for name in shipped if name.startswith("target")} == set(files) - set(shipped)


def test_an_error_of_hearloop_is_one_line(installed):
    done = installed("hearloop", "inspect", "no-such-model")
    assert done.returncode == 1
    assert done.stderr.startswith("hearloop: model 'no-such-model'")
    assert len(done.stderr.splitlines()) == 1
