"""The command as a whole."""

from importlib.metadata import version

import pytest

from hearloop.tools.main import main


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"hearloop {version('hearloop')}\n"
