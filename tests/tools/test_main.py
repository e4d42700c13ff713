"""The command as a whole."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from hearloop.tools.main import main


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
