"""What the documents tell a person to do works."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hearloop.tools.main import VERBS

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


def test_the_python_example_of_the_readme_gives_an_aligned_file(tmp_path, monkeypatch, rng):
    example, *_ = [
        block
        for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
        if "Processor" in block
    ]
    noisy = 0.05 * rng.standard_normal((12345, 2)).astype(np.float32)
    noisy[6000] = 0.5
    soundfile.write(tmp_path / "noisy.wav", noisy, 44100)
    monkeypatch.chdir(tmp_path)
    # With attenuation limited, a trace of every sample is left: the impulse shows where it came out.
    exec(compile(example.replace("attenuation_limit_db=24", "attenuation_limit_db=6"), "README.md", "exec"), {})
    enhanced, rate = soundfile.read("enhanced.wav")
    assert (enhanced.shape, rate) == (noisy.shape, 44100)
    assert np.argmax(np.abs(enhanced), axis=0).tolist() == [6000, 6000]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_files_lead_somewhere(document):
    path = ROOT / document
    links = [link for link in re.findall(r"\]\(([^)#]+)", path.read_text()) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_told_exist(document):
    told = re.findall(r"(?:^    |`)hearloop ([a-z]+)", (ROOT / document).read_text(), re.M)
    assert set(told) <= set(VERBS)
