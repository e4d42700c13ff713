"""The command as a whole."""

import importlib
import re
import subprocess
import sys
from importlib.metadata import requires, version

import pytest

from hearloop.tools.main import EXTRAS, VERBS, main


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"hearloop {version('hearloop')}\n"


INTERRUPTED = """
import sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == "hearloop.runtime":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from hearloop.tools.main import main
sys.exit(main(["models"]))
"""


def test_ctrl_c_while_the_runtime_is_imported_ends_without_a_traceback():
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (130, "")


HELP = """
import sys
from hearloop.tools.main import main
try:
    main(["--help"])
finally:
    print("imported:", *(name for name in sys.modules if name in ("numba", "onnxruntime", "scipy")))
"""


def test_the_help_of_the_command_imports_nothing_that_would_have_to_be_compiled_first():
    """The first `hearloop --help` after an installation was silent for 25 s."""
    asked = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, timeout=60)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.splitlines()[-1].strip() == "imported:"


def test_what_joblib_is_missing_for_needs_no_torch(monkeypatch, capsys, tmp_path):
    """It was said to come with the extra `train`, which is gigabytes."""
    monkeypatch.setitem(sys.modules, "joblib", None)
    assert main(["process", str(tmp_path), str(tmp_path / "out"), "--backend", "loky"]) == 1
    assert "joblib is not installed; `pip install hearloop[cluster]` adds it" in capsys.readouterr().err


def test_every_package_that_only_an_extra_brings_is_hinted_at_with_an_extra_that_brings_it():
    brought = {}
    for requirement in requires("hearloop"):
        package, extra = re.match(r"[\w-]+", requirement)[0], re.search(r"extra == .(\w+)", requirement)
        if extra and package != "hearloop" and extra[1] != "dev":
            brought.setdefault(package.replace("-", "_"), set()).add(extra[1])
    assert EXTRAS.keys() == brought.keys()
    assert {name: EXTRAS[name] for name in EXTRAS if EXTRAS[name] not in brought[name]} == {}


WITHOUT_TORCH = """
import sys

class NotInstalled:
    def find_spec(self, name, *_):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, NotInstalled())
from hearloop.tools.main import VERBS, main

for verb in VERBS:
    try:
        main([verb, "--help"])
    except SystemExit as end:
        print(f"{verb}: {end.code}")
"""


def test_every_verb_can_be_asked_for_help_where_torch_is_not_installed():
    """`hearloop average --help` said that torch is not installed."""
    importlib.import_module("hearloop.runtime.live")  # else it is the other process that compiles, and says so
    asked = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, timeout=300)
    assert "torch" not in asked.stderr
    assert [line for line in asked.stdout.splitlines() if line.endswith(": 0")] == [f"{verb}: 0" for verb in VERBS]
