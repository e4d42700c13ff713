"""Does `hearloop profile --compare` see what is there, and only that, on this machine?

    python tests/system/planted_slowdown.py --seconds 20 --rounds 3

Every round measures `enhance-small` with both engines in a process of its own, then once more with every block made
longer by a share of its median (it spins), and compares both with the run before. Verdicts are printed.
"""

import argparse
import json
import subprocess
import sys
from time import perf_counter_ns

from hearloop.runtime.load import load_model
from hearloop.tools.profiling.clock import RealClock
from hearloop.tools.profiling.compare import compare
from hearloop.tools.profiling.measure import measure
from hearloop.tools.profiling.reference import REFERENCES, references
from hearloop.tools.profiling.subjects import Work, open_subject


class Longer:
    """A job that takes so much longer."""

    def __init__(self, job, more_ns: int):
        self.period_ns, self.laps = job.period_ns, job.laps
        self._job, self._more_ns = job, more_ns

    def feed(self, index: int) -> None:
        self._job.feed(index)

    def run(self) -> None:
        self._job.run()
        end_ns = perf_counter_ns() + self._more_ns
        while perf_counter_ns() < end_ns:
            pass


def run_once(seconds: float, more_ns: dict[str, int]) -> dict:
    work, bundle = Work(), load_model("enhance-small")
    subjects = [open_subject(bundle, engine, work) for engine in ("compiled", "ort")]
    for subject in subjects:
        subject.job = Longer(subject.job, more_ns.get(subject.name, 0))
    rows, _ = measure([*references(work), *subjects], seconds, RealClock())
    return {"settings": {}, "environment": {}, "rows": [row.to_json() for row in rows]}


def run_in_a_process(seconds: float, more_ns: dict[str, int]) -> dict:
    command = [sys.executable, __file__, "--seconds", str(seconds), "--child", json.dumps(more_ns)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of each row (default: 20)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.2, help="by which blocks are longer (default: 0.2)")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        json.dump(run_once(options.seconds, options.child), sys.stdout)
        return
    before = run_in_a_process(options.seconds, {})
    for _ in range(options.rounds):
        same = run_in_a_process(options.seconds, {})
        medians = {row["name"]: row["compute_us"]["p50"] for row in same["rows"] if row["name"] not in REFERENCES}
        more_ns = {name: round(1000 * options.share * median) for name, median in medians.items()}
        for what, now in (("the same", same), ("longer", run_in_a_process(options.seconds, more_ns))):
            for verdict in compare(before, now):
                print(
                    f"{what:<9} {verdict.name:<24} {verdict.outcome:<8} {verdict.ratio:.2f} "
                    f"({verdict.low:.2f} to {verdict.high:.2f}), {verdict.remark}",
                    flush=True,
                )
        before = same


if __name__ == "__main__":
    main()
