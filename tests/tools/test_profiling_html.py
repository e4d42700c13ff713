"""The page in a real browser: it opens without a network, draws every block, and complains of nothing."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from hearloop.tools.profiling.clock import RealClock
from hearloop.tools.profiling.document import document
from hearloop.tools.profiling.html import write_html
from hearloop.tools.profiling.measure import measure
from hearloop.tools.profiling.reference import references
from hearloop.tools.profiling.subjects import Work

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--window-size=1100,2000",
    "--virtual-time-budget=5000",
)

ACTIONS = """
document.querySelector("#toggles button").click();
document.querySelector("[data-what=lateness]").click();
$("log").click();
const box = canvas.getBoundingClientRect();
const at = share => ({clientX: box.left + share * box.width, clientY: box.top + 99, bubbles: true});
canvas.dispatchEvent(new MouseEvent("mousedown", at(0.25)));
canvas.dispatchEvent(new MouseEvent("mousemove", at(0.75)));
canvas.dispatchEvent(new MouseEvent("mouseup", at(0.75)));
document.body.dataset.acted = [shown.size, what, ...view, logarithmic].join(" ");
"""


@pytest.fixture
def page(tmp_path):
    """Of a short run, with a miss, a note that would end a script, and a row's name that would be markup."""
    work = Work()
    rows, conditions = measure(references(work), 0.4, RealClock())
    rows[0].samples.slack[7] = -1
    rows[0].subject.notes.append("</script><img src=http://example.invalid/x.png>")
    settings = vars(work) | {"seconds": 0.4}
    content = {
        "rows": [row.to_json() for row in rows],
        "conditions": vars(conditions),
        "measuring": {"us_per_block": 1.0, "share": 0.001},
    }
    path = tmp_path / "report.html"
    write_html(path, document("paced", settings, content), {row.subject.name: row.samples for row in rows})
    return path


def test_the_page_asks_for_nothing_from_anywhere(page):
    text = page.read_text()
    assert "default-src 'none'" in text
    outside = re.findall(r"""(?:src|href|url|@import|fetch|XMLHttpRequest|WebSocket)\W{1,3}(?!data:)\w+:""", text)
    assert [found for found in outside if "example.invalid" not in found] == ["src=http:"]  # the note, in a string
    assert text.count("</script>") == 1


def test_a_browser_draws_it_and_complains_of_nothing(page, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")
    picture = tmp_path / "page.png"

    def browse(*arguments):
        command = [browser, *FLAGS, f"--user-data-dir={tmp_path / 'browser'}", *arguments, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    seen = browse("--dump-dom")
    assert seen.returncode == 0, seen.stderr
    assert "CONSOLE" not in seen.stderr
    drawn = re.search(r'<body data-drawn="(\d+)"', seen.stdout)
    assert drawn, seen.stdout[-500:]
    assert int(drawn[1]) > 40  # of 100 blocks, as some share a pixel
    assert "passthrough" in seen.stdout
    assert "&lt;/script&gt;&lt;img" in seen.stdout  # shown as text
    # A person hides a row, looks at another quantity, and drags over the middle of the time.
    page.write_text(page.read_text().replace("</body>", f"<script>{ACTIONS}</script></body>"))
    seen = browse("--dump-dom")
    assert "CONSOLE" not in seen.stderr
    acted = re.search(r'data-acted="([^"]*)"', seen.stdout)
    assert acted
    hidden, quantity, start, end, linear = acted[1].split()
    assert (hidden, quantity, linear) == ("1", "lateness", "false")
    assert 0.05 < float(start) < 0.15 < 0.2 < float(end) < 0.35  # of 0.4 s
    browse(f"--screenshot={picture}")
    from matplotlib.image import imread

    shades = imread(picture)
    assert shades.shape[:2] == (2000, 1100)
    assert np.std(shades[:, :, :3]) > 0.05  # something has been painted
