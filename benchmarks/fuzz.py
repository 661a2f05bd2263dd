"""What the command line does with malformed inputs: 1,200 by default, each from a seed, each in a process of its own.

python -m benchmarks.fuzz [--count 1200] [--seed 0] [--only FAMILY ...] [--jobs 2] [--keep FOLDER]

A case is a command with files made for it (`benchmarks.fuzz_cases` of extract, `benchmarks.fuzz_verbs` of evaluate,
finetune, tune, track and review --export). It passes when it ends within 60 s of processor
time (on a shared machine the clock says little; 1,800 s by the clock end it, too) with status 0, 1 or 2, says what is
wrong in lines of ours, leaves its inputs byte for byte as they were, and leaves an output that can be read or none.
Writes benchmarks/results/fuzz.json, families that were left out as they were; ends with status 1 where a case did not
pass.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio

from benchmarks import fuzz_cases, fuzz_verbs
from benchmarks.fuzz_cases import Make, Materials
from hybridseg import nn
from hybridseg.cli import main as hybridseg
from hybridseg.cli.verbs import VERBS
from hybridseg.write.result import read_result

RESULTS = Path(__file__).parent / "results" / "fuzz.json"
LIMIT_S, CLOCK_LIMIT_S = 60, 1800
MEMORY_BYTES = 4 << 30
"""What a case may take beyond what this process has."""
NO_FINDING = "as it should"
FAMILIES: dict[str, Make] = {
    "rasters_damaged": fuzz_cases.rasters_damaged,
    "rasters_odd": fuzz_cases.rasters_odd,
    "themes": fuzz_cases.themes,
    "options": fuzz_cases.options,
    "prompts": fuzz_cases.prompts,
    "models": fuzz_cases.models,
    "layers": fuzz_verbs.layers,
    "labels": fuzz_verbs.labels,
    "tracks": fuzz_verbs.tracks,
    "reviews": fuzz_verbs.reviews,
}
"""What draws the cases of each family."""


@dataclass
class Case:
    """A running or finished case.

    folder: holds `in` (its inputs), `out` (where it may write), and what it printed.
    before: hash of each input.
    seconds: of processor time; status: of its end, negative where a signal ended it.
    finding: what is wrong with how it ended, or `NO_FINDING`.
    """

    family: str
    number: int
    folder: Path
    command: list[str]
    before: dict[str, str]
    begun: float = 0.0
    seconds: float = 0.0
    status: int = 0
    finding: str = ""

    @property
    def name(self) -> str:
        """Family and number, by which a case is made again."""
        return f"{self.family}-{self.number}"

    def judge(self) -> str:
        """Return what is wrong with how it ended, or `NO_FINDING`."""
        said = (self.folder / "stderr").read_text(errors="replace")
        usage, ours = "usage: " in said, [line.startswith("hybridseg: ") for line in said.splitlines()]
        written = [path for path in (self.folder / "out").rglob("*") if path.is_file()]
        findings = {
            f"still at work after {LIMIT_S} s": self.status == -signal.SIGXCPU,
            f"ended by signal {-self.status}": self.status < 0,
            "traceback": "Traceback" in said,
            f"status {self.status}": self.status not in (0, 1, 2),
            "inputs changed": _hashes(self.folder / "in") != self.before,
            "temporary files left": any(part.startswith((".hybridseg", "hybridseg-")) for part in self._places()),
            "refused, but something is written": self.status == 2 and bool(written),
            "lines that are not ours": not usage and not all(ours),
            "refused without one line that says why": self.status == 2 and not usage and not ours[-1:],
        }
        return next((finding for finding, found in findings.items() if found), self._output_finding())

    def _places(self) -> list[str]:
        return [path.name for path in (self.folder / "out").rglob("*")]

    def _output_finding(self) -> str:
        for path in (self.folder / "out").rglob("*"):
            try:
                if path.suffix == ".tif":
                    with rasterio.open(path) as made:
                        made.read()
                elif path.suffix in (".gpkg", ".parquet", ".fgb", ".geojson") and path.parent.name == "out":
                    read_result(path)
            except Exception as error:
                return f"{path.name} cannot be read: {error}"
        return NO_FINDING


def run(names: Sequence[tuple[str, int]], seed: int, work: Path, jobs: int = 1) -> list[Case]:
    """Run cases, so many at a time.

    Args:
        names: family and number of each.
        seed: of all of them.
        work: a folder; those of cases that pass are removed.
        jobs: processes at a time.
    """
    materials, running, done, waiting = Materials.make(work / "materials"), dict[int, Case](), list[Case](), [*names]
    while waiting or running:
        while waiting and len(running) < jobs:
            case = _make(*waiting.pop(0), seed, materials, work)
            running[_start(case)] = case
        time.sleep(0.005)
        for pid, case in list(running.items()):
            if time.monotonic() - case.begun > CLOCK_LIMIT_S:
                os.kill(pid, signal.SIGXCPU)
            ended, status, used = os.wait4(pid, os.WNOHANG)
            if not ended:
                continue
            case.seconds, case.status = used.ru_utime + used.ru_stime, os.waitstatus_to_exitcode(status)
            done.append(running.pop(pid))
            _report(case)
    return done


def _make(family: str, number: int, seed: int, materials: Materials, work: Path) -> Case:
    """Make a case's files and command; the same for the same seed and name."""
    folder = work / f"{family}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "in").mkdir(parents=True)
    (folder / "out").mkdir()
    command = FAMILIES[family](materials.draws(family, number, seed), folder / "in", folder / "out", materials)
    return Case(family, number, folder, command, _hashes(folder / "in"))


def _start(case: Case) -> int:
    """Start a case in a copy of this process, which has imported everything and opened the models.

    Runtime torch: OpenVINO's threads do not live on in a copy.
    """
    case.begun = time.monotonic()
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    status = 3
    try:
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(case.folder / name, os.O_CREAT | os.O_WRONLY), number)
        os.chdir(case.folder / "in")
        os.environ["TMPDIR"] = tempfile.tempdir = str(case.folder / "out")  # what is left there is a finding, too
        limit = MEMORY_BYTES + int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S + 5))
        status = hybridseg(case.command)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        weakref.finalize._exitfunc()  # type: ignore[attr-defined]  # os._exit runs none of those that remove folders
        os._exit(status)
    return 0


def _hashes(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _report(case: Case) -> None:
    """Print a case that did not pass; remove the files of one that did."""
    case.finding = case.judge()
    if case.finding == NO_FINDING:
        shutil.rmtree(case.folder)
    else:
        said = (case.folder / "stderr").read_text(errors="replace").strip().splitlines()[-1:]
        print(f"{case.name}: {case.finding} ({case.seconds:.1f} s): {' '.join(case.command)}\n  {said}", flush=True)


def main() -> int:
    """Run, print, write."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # commands hold names of no encoding
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="families, or cases such as themes-12")
    parser.add_argument("--keep", type=Path, help="folder that cases that did not pass stay in")
    given = parser.parse_args()
    each = -(-given.count // len(FAMILIES))
    names = [(family, number) for family in FAMILIES for number in range(each)]
    if given.only:
        names = [(f, n) for f, n in names if f in given.only or f"{f}-{n}" in given.only]
    os.environ["HF_HUB_OFFLINE"] = "1"
    _warm()
    # a TemporaryDirectory would be removed by the first process that is forked for a case and ends
    temporary, passed = Path(tempfile.mkdtemp()), True
    for family in dict.fromkeys(family for family, _ in names):
        chosen = [name for name in names if name[0] == family]
        found = _figures(run(chosen, given.seed, given.keep or temporary, given.jobs), given.seed)
        print(json.dumps({family: found}, indent=1), flush=True)
        passed &= found["passed"] == found["cases"]
        if len(chosen) == each:  # single cases are for whoever mends them
            _write(family, found)
    shutil.rmtree(temporary)
    return 0 if passed else 1


def _warm() -> None:
    """Do once what all cases need: import the verbs, open the models."""
    for module in (*{verb.module for name, verb in VERBS.items() if name != "train"}, "hybridseg.cli.parser"):
        importlib.import_module(module)
    for room in ("hybridseg.reviewing.desk", "sklearn.linear_model"):
        importlib.import_module(room)
    nn.models.Models.open("buildings-lite0", "sam2-lite", "cpu", runtime="torch")


def _write(family: str, found: dict[str, Any]) -> None:
    """Put the figures of a family into the results."""
    known = json.loads(RESULTS.read_text())["families"] if RESULTS.exists() else {}
    families = {name: (known | {family: found})[name] for name in FAMILIES if name in {*known, family}}
    sums = {what: round(sum(one[what] for one in families.values())) for what in ("cases", "passed", "processor_s")}
    RESULTS.write_text(json.dumps({**sums, "limit_s": LIMIT_S, "families": families}, indent=1) + "\n")


def _figures(cases: Sequence[Case], seed: int) -> dict[str, Any]:
    """Counts of one family: by exit status, seconds of processor time of all and the slowest, and what did not pass."""
    failed = {case.name: case.finding for case in cases if case.finding != NO_FINDING}
    return {
        "seed": seed,
        "cases": len(cases),
        "passed": len(cases) - len(failed),
        "by_status": dict(sorted(Counter(str(case.status) for case in cases).items())),
        "processor_s": round(sum(case.seconds for case in cases), 1),
        "slowest_s": round(max(case.seconds for case in cases), 1),
        "failed": failed,
    }


if __name__ == "__main__":
    sys.exit(main())
