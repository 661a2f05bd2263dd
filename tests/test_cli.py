"""The command line: what it says, and how it fails. Models are random; only the plumbing is looked at."""

from __future__ import annotations

import errno
import functools
import importlib
import inspect
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import geopandas as gpd
import pytest
import torch
from affine import Affine
from odc.geo.geobox import GeoBox

import hybridseg
from hybridseg.cli import PYTHON_ONLY, VERBS, main, parse
from hybridseg.errors import HybridsegError, HybridsegWarning, OutputError
from hybridseg.nn.classify.heads import Segmenter
from hybridseg.nn.weights import save_weights
from hybridseg.run.progress import Lines
from hybridseg.run.result import Result, Summary
from hybridseg.types import Failure
from hybridseg.write.result import read_result
from tests.commands import one_line
from tests.rasters import default_image, make


def function_of(verb: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(importlib.import_module(VERBS[verb].module), verb)
    return function


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    card = {"classes": ["building"], "gsd_m": 0.25, "gsd_range_m": [0.05, 0.6]}
    save_weights(Segmenter(classes=1), folder / "buildings-lite0", card)
    return folder


@pytest.fixture(autouse=True)
def _own_models(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRIDSEG_MODELS", str(models))


# --- help -------------------------------------------------------------------------------------------------------------


def test_help_does_not_wait_for_torch():
    program = """
import sys
from hybridseg.cli import main
for arguments in ([], ["extract"], ["demo"], ["train"], ["tune"], ["finetune"], ["evaluate"], ["models"],
                  ["review"], ["serve"]):
    try:
        main([*arguments, "--help"])
    except SystemExit as done:
        assert not done.code
heavy = {"torch", "timm", "sam2", "lightning", "matplotlib.pyplot"} & set(sys.modules)
sys.exit(f"imports {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in VERBS)


def help_of(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert not stopped.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_and_explains_every_parameter(verb: str, capsys: pytest.CaptureFixture[str]):
    said = help_of(verb, capsys)
    for name, parameter in inspect.signature(function_of(verb)).parameters.items():
        if name in PYTHON_ONLY:
            continue  # progress is a value in Python, a word here
        obligatory = parameter.default is parameter.empty or (name == "out" and verb in ("extract", "track"))
        positional = parameter.kind is not parameter.KEYWORD_ONLY and obligatory
        flag = name if positional or name in ("name", "result") else f"--{name.rstrip('_')}".replace("_", "[_-]")
        flag = f"(?:{flag}|{flag.upper()})" if positional else flag  # of several values argparse shows the capitals
        explained = re.search(rf"^  {flag}\b.*?\n?\s+\w[^\n]*(\n {{8,}}[^\n]*)*", said, re.MULTILINE)
        assert explained, f"{flag} is not in the help of {verb}"
        assert len(explained.group().split("(type")[0].split()) > 3, f"{flag} is not explained"


@pytest.mark.parametrize("verb", VERBS)
def test_the_line_about_a_verb_is_the_first_of_its_docstring(verb: str):
    documented = (inspect.getdoc(function_of(verb)) or "").splitlines()[0]
    assert VERBS[verb].about == documented


@pytest.mark.parametrize("words", [[], ["--help"]], ids=["alone", "help"])
def test_hybridseg_alone_lists_every_verb_with_its_line_and_an_example(
    words: list[str], capsys: pytest.CaptureFixture[str]
):
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    for name, verb in VERBS.items():
        assert f"{name} {verb.about} $ hybridseg {name}" in said


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_everything_once_and_without_types_of_python(verb: str, capsys: pytest.CaptureFixture[str]):
    said = help_of(verb, capsys)
    assert " ".join(said.split()).count(VERBS[verb].about) == 1
    assert not re.search(r"Union|null|<class|GeoDataFrame\b.*subclass|\(type|type:|--[\w-]+\+|\.help", said)
    assert all(f"  $ {example}\n" in said for example in VERBS[verb].examples)
    (usage,) = re.findall(r"^usage: (.*)", said, re.MULTILINE)
    assert usage.startswith(f"hybridseg {verb} ")


@pytest.mark.parametrize("verb", VERBS)
def test_examples_are_understood(verb: str, capsys: pytest.CaptureFixture[str]):
    for example in VERBS[verb].examples:
        chosen, settings = parse(shlex.split(example)[1:], verb, function_of(verb))
        assert chosen == verb
        inspect.signature(function_of(verb)).bind(**{k: v for k, v in settings.as_dict().items() if k != "json"})


@pytest.mark.parametrize(("words", "wanted"), [((), False), (("--quiet",), True), (("--quiet", "false"), False)])
def test_flags_that_are_yes_or_no_stand_alone(words: tuple[str, ...], wanted: bool):
    _, settings = parse(["train", "a.yaml", *words], "train", function_of("train"))
    assert settings.quiet is wanted


def test_verbs_are_those_that_python_offers():
    public = {name: getattr(hybridseg, name) for name in hybridseg.__all__}
    functions = {name for name, value in public.items() if inspect.isfunction(value)}
    assert set(VERBS) - {"demo"} == functions - {"open_scene", "load_theme"}
    assert all(public[name] is function_of(name) for name in VERBS if name != "demo")


def test_a_verb_is_imported_when_it_is_called():
    program = """
import sys
from hybridseg.cli import VERBS, main
from hybridseg.cli import parse
from hybridseg.errors import HybridsegError, HybridsegWarning, OutputError
def loaded():
    return {name for name, verb in VERBS.items() if verb.module in sys.modules}
found = [loaded()]
for arguments in (["--version"], ["models"]):
    try:
        main(arguments)
    except SystemExit:
        pass
    found.append(loaded())
sys.stderr.write(repr(found))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == repr([set(), set(), {"models"}])


@pytest.mark.parametrize("verb", VERBS)
def test_flags_that_help_and_messages_speak_of_exist(verb: str, capsys: pytest.CaptureFixture[str]):
    said = help_of(verb, capsys)
    package = Path(hybridseg.__file__).parent
    texts = [said] if verb != "extract" else [said, *(path.read_text() for path in package.glob("*/*.py"))]
    spoken = {flag for text in texts for flag in re.findall(r"(?<![\w-])--[a-z][a-z_-]*[a-z]", text)}
    spoken -= {"--extra", "--help", "--version"}  # uv's, argparse's, of the command without a verb
    every = "".join(help_of(name, capsys) for name in (VERBS if verb == "extract" else ["extract"]))
    offered = set(re.findall(r"^  (--[\w-]+)", every + said, re.MULTILINE))
    refused = sorted(flag for flag in spoken - offered if not accepted(flag, capsys))
    assert not refused


def accepted(flag: str, capsys: pytest.CaptureFixture[str]) -> bool:
    with suppress(SystemExit):
        main(["extract", "none.tif", "out.gpkg", flag, "EPSG:4326"])
    return "unrecognized" not in capsys.readouterr().err


def test_models_lists_the_embedded_ones_and_shows_a_card(capsys: pytest.CaptureFixture[str]):
    assert main(["models"]) == 0
    assert re.search(r"buildings-lite0 +classifier|buildings-lite0 +model: building", capsys.readouterr().out)
    assert main(["models", "buildings-lite0"]) == 0
    assert "gsd_range_m" in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["classes"] == ["building"]
    assert main(["models", "gone"]) == 2
    assert capsys.readouterr().err.startswith("hybridseg: no model 'gone'")


def test_several_themes_at_once_need_different_names(blocks: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["extract", str(blocks), str(tmp_path / "o.gpkg"), "--theme", "buildings,buildings"]) == 2
    assert "each once" in capfd.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert not stopped.value.code
    assert re.search(r"\d+\.\d+", capsys.readouterr().out)


# --- mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES = {
    "unknown theme": (["--theme", "volcanoes"], "buildings"),
    "theme's file missing": (["--theme", "none.yaml"], "none.yaml"),
    "unknown refiner": (["--refiner", "sam3"], "sam2.1-hiera-tiny"),
    "missing checkpoint": (["--refiner", "none.pt"], "none.pt"),
    "no such band": (["--bands", "9,2,1"], "9"),
    "two bands": (["--bands", "1,2"], "three"),
    "bands not numbers": (["--bands", "red,green"], "red,green"),
    "bands not whole": (["--bands", "1.5,2,3"], "1.5"),
    "bands not finite": (["--bands", "nan"], "nan"),
    "no bands": (["--bands", ""], "bands"),
    "extent not numbers": (["--extent", "a,b,c,d"], "a,b,c,d"),
    "extent too short": (["--extent", "1,2,3"], "left,bottom,right,top"),
    "extent upside down": (["--extent", "512400,5240300,512350,5240200"], "extent"),
    "extent elsewhere": (["--extent", "1,2,3,4"], "does not touch"),
    "extent elsewhere, west": (["--extent", "-71.2,42.1,-71.1,42.2"], "does not touch"),
    "extent not finite": (["--extent", "nan,nan,nan,nan"], "extent"),
    "extent infinite": (["--extent=-inf,-inf,inf,inf"], "extent"),
    "unknown CRS": (["--crs", "EPSG:0"], "EPSG:0"),
    "CRS not one": (["--crs", "somewhere"], "somewhere"),
    "unknown prompts": (["--prompts", "lines"], "box,points,hint"),
    "no prompts": (["--prompts", ""], "box,points,hint"),
    "prompts missing": (["--from-prompts", "none.gpkg"], "none.gpkg"),
    "unknown device": (["--device", "abacus"], "abacus"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_line_and_writes_nothing(
    mistake: str, blocks: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    flags, said = MISTAKES[mistake]
    # a later flag overrides an earlier one
    command = ["extract", str(blocks), str(tmp_path / "out.gpkg"), "--refiner", "none", "--device", "cpu", *flags]
    assert said in one_line(command, tmp_path, capfd)


@pytest.mark.parametrize(
    ("out", "said"), [("out.shp", ".shp"), ("out", ".gpkg"), ("none/out.gpkg", "folder"), (".", "suffix")]
)
def test_an_output_that_cannot_be_written_is_refused_first(
    out: str, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    # before the scene is looked at: it is missing too
    assert said in one_line(["extract", "none.tif", str(tmp_path / out)], tmp_path, capfd)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert "permission" in one_line(["extract", "none.tif", str(closed / "out.gpkg")], tmp_path, capfd)


def test_a_work_folder_that_cannot_be_made_is_refused(blocks: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    flags = ["--run", str(blocks / "work"), "--refiner", "none", "--device", "cpu"]
    assert "folder" in one_line(["extract", str(blocks), str(tmp_path / "out.gpkg"), *flags], tmp_path, capfd)


def test_a_flag_that_is_true_or_false_needs_no_value(blocks: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    given = ["extract", str(blocks), str(tmp_path / "out.gpkg"), "--retry-failed"]
    assert "--retry-failed goes with --run" in one_line(given, tmp_path, capfd)


@pytest.mark.parametrize("place", ["file", "below a file"])
def test_a_demo_folder_that_cannot_be_made_is_refused(place: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" if place == "file" else tmp_path / "file" / "demo"
    assert "file" in one_line(["demo", "--folder", str(folder)], tmp_path, capfd)


@pytest.mark.parametrize("recipe", [None, "kind: potter\n", "[", "kind: classifier\nspam: 1\n"])
def test_a_recipe_that_will_not_do_gives_one_line(
    recipe: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    path = tmp_path / "mine.yaml"
    if recipe is not None:
        path.write_text(recipe)
    assert "mine.yaml" in one_line(["train", str(path), "--runs", str(tmp_path / "runs")], tmp_path, capfd)


@pytest.mark.parametrize(
    "arguments",
    [
        ["dig"],
        ["extract"],
        ["extract", "scene.tif"],
        ["extract", "scene.tif", "out.gpkg", "more"],
        ["extract", "scene.tif", "out.gpkg", "--spam", "1"],
        ["extract", "scene.tif", "out.gpkg", "--theme"],
        ["demo", "--size-px", "large"],
        ["train"],
    ],
    ids=" ".join,
)
def test_a_command_that_is_not_understood_has_the_same_status(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: " in capsys.readouterr().err


# --- faults and signals -----------------------------------------------------------------------------------------------


@pytest.fixture
def replace_extract(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Puts another function in the place of the verb `extract`, behind its signature."""

    def replace(stand_in: Callable[..., Any]) -> None:
        module = importlib.import_module("hybridseg.run.extract")
        real = module.extract

        @functools.wraps(real)
        def extract(**settings: Any) -> Any:
            return stand_in(**settings)

        monkeypatch.setattr(module, "extract", extract)

    return replace


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def stand_in(**_: Any) -> NoReturn:
        raise error

    return stand_in


COMMAND = ["extract", "scene.tif", "out.gpkg"]


@pytest.mark.parametrize(
    "error", [TypeError("a\nb"), KeyError("score"), AssertionError(), ZeroDivisionError("by zero")]
)
def test_a_fault_of_ours_is_one_line_and_a_status_of_its_own(
    error: Exception,
    replace_extract: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv("HYBRIDSEG_DEBUG", raising=False)
    replace_extract(raising(error))
    assert main(COMMAND) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.match(rf"hybridseg: a fault of hybridseg itself: {type(error).__name__}(: [^;]+)?; run it again", err)
    assert "HYBRIDSEG_DEBUG=1" in err


@pytest.mark.parametrize(
    ("error", "where"),
    [(OSError(errno.ENOSPC, "No space left on device", "/tmp/rows.parquet"), " at /tmp/rows.parquet"),
     (OSError(errno.EDQUOT, "Disk quota exceeded"), "")],
)  # fmt: skip
def test_a_disk_that_is_full_is_no_fault_of_ours(
    error: OSError, where: str, replace_extract: Callable[..., None], capfd: pytest.CaptureFixture[str]
):
    replace_extract(raising(error))
    assert main(COMMAND) == 2
    err = capfd.readouterr().err
    assert err == f"hybridseg: the disk is full{where}: make room, or name a folder for temporary files by TMPDIR\n"


def test_a_fault_shows_where_it_is_when_asked(
    replace_extract: Callable[..., None], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HYBRIDSEG_DEBUG", "1")
    replace_extract(raising(TypeError("fault")))
    assert main(COMMAND) == 3
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize("error", [HybridsegError("no luck; try again"), OutputError("no room")])
def test_bad_input_is_one_line_and_another_status(
    error: Exception, replace_extract: Callable[..., None], capfd: pytest.CaptureFixture[str]
):
    replace_extract(raising(error))
    assert main(COMMAND) == 2
    assert capfd.readouterr().err == f"hybridseg: {error}\n"


def test_control_c_is_one_line_and_the_shells_status(
    replace_extract: Callable[..., None], capfd: pytest.CaptureFixture[str]
):
    replace_extract(raising(KeyboardInterrupt()))
    assert main(COMMAND) == 130
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "hybridseg: stopped; nothing half written is left\n"


def test_a_run_with_gaps_has_a_result_and_a_status_of_its_own(
    replace_extract: Callable[..., None], capfd: pytest.CaptureFixture[str]
):
    failures = (Failure("window at column 0, row 0, 9 x 9 px", "OSError: damaged block"),)
    counts = (2, 0, 0, 2, 0, 1, 0, 1, 0, 0, 1)
    summary = Summary("scene.tif", "out.gpkg", "buildings", "none", *counts, {"classify": 1.0}, failures)
    replace_extract(
        lambda **_: Result(gpd.GeoDataFrame(geometry=[]), summary, GeoBox((9, 9), Affine.identity(), "EPSG:32645"))
    )
    assert main(COMMAND) == 1
    said = " ".join(capfd.readouterr().out.split())
    assert "1 windows" in said
    assert "window at column 0, row 0, 9 x 9 px: OSError: damaged block" in said
    assert main([*COMMAND, "--json"]) == 1
    assert json.loads(capfd.readouterr().out)["failures"] == [
        {"place": failures[0].place, "reason": failures[0].reason}
    ]


def test_the_handler_of_signals_is_put_back(replace_extract: Callable[..., None]):
    before = signal.getsignal(signal.SIGTERM)
    replace_extract(raising(HybridsegError("no")))
    main(COMMAND)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_an_extension_module_turns_into_an_import_error_still_ends_the_run(
    number: int, status: int, replace_extract: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
):  # fmt: skip
    def importing(**_: Any) -> NoReturn:
        try:
            signal.raise_signal(number)
        except BaseException as error:
            raise ImportError("initialization failed") from error
        raise AssertionError("no signal came")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores Ctrl-C
    try:
        replace_extract(importing)
        assert main(COMMAND) == status
    finally:
        signal.signal(signal.SIGINT, before)
    assert capfd.readouterr().err == "hybridseg: stopped; nothing half written is left\n"


def _holds_work(temporary: Path) -> bool:
    """Whether a run has begun to write; what it renames while the folders are listed counts as not yet."""
    try:
        return any(temporary.glob("hybridseg-*/*/*"))
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_ended_leaves_nothing_behind(number: int, status: int, models: Path, tmp_path: Path):
    scene, temporary, results = tmp_path / "scene", tmp_path / "temporary", tmp_path / "results"
    for folder in (scene, temporary, results):
        folder.mkdir()
    path = make("utm", scene, default_image(2500, 2500), 0.3)
    with subprocess.Popen(
        [sys.executable, "-m", "hybridseg", "extract", path, results / "map.gpkg", "--refiner", "none",
         "--device", "cpu"],
        env=os.environ | {"TMPDIR": str(temporary), "HYBRIDSEG_MODELS": str(models)}, stderr=subprocess.PIPE, text=True,
        # where the tests run in the background, Ctrl-C is ignored, which children inherit
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as run:  # fmt: skip
        while run.poll() is None and not _holds_work(temporary):
            time.sleep(0.05)
        time.sleep(0.2)
        run.send_signal(number)
        said = run.communicate(timeout=120)[1]
    assert run.returncode == status, said
    assert list(temporary.iterdir()) == []
    assert list(results.iterdir()) == []
    assert "Traceback" not in said


# --- progress ---------------------------------------------------------------------------------------------------------


def events(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines()]


def test_progress_for_programs_is_one_json_object_a_line(
    blocks: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    out = tmp_path / "out.gpkg"
    words = ["extract", str(blocks), str(out), "--refiner", "none", "--device", "cpu", "--progress", "json", "--json"]
    assert main(words) == 0
    said, err = capfd.readouterr()
    told = events(err)
    assert [one["sweep"] for one in told if one["event"] == "start"] == [
        "load", "open scene", "load models", "classify", "find objects", "join", "shape",
    ]  # fmt: skip
    steps = [one for one in told if one["event"] == "step" and one["sweep"] == "classify"]
    assert [(one["done"], one["total"]) for one in steps] == [(k + 1, len(steps)) for k in range(len(steps))]
    assert (told[-1]["event"], told[-1]["status"]) == ("end", 0)
    assert [one["seconds"] for one in told] == sorted(one["seconds"] for one in told)
    assert json.loads(said)["out"] == str(out)


def test_errors_and_warnings_are_told_to_programs_as_well(
    replace_extract: Callable[..., None], capfd: pytest.CaptureFixture[str]
):
    def stand_in(**_: Any) -> NoReturn:
        warnings.simplefilter("always", HybridsegWarning)  # pytest makes errors of warnings
        warnings.warn("a field was repaired", HybridsegWarning, stacklevel=1)
        raise HybridsegError("no luck; try again")

    replace_extract(stand_in)
    assert main([*COMMAND, "--progress=json"]) == 2
    told = [(one["event"], one.get("message", one.get("status"))) for one in events(capfd.readouterr().err)]
    assert told[1:] == [("warning", "a field was repaired"), ("error", "no luck; try again"), ("end", 2)]


def test_where_there_is_no_terminal_a_line_comes_now_and_then(capfd: pytest.CaptureFixture[str]):
    with Lines(every_s=0.05) as lines:
        lines.start("load models", None, "")
        time.sleep(0.2)
        lines.start("refine", 1400)
        lines.step(12)
        time.sleep(0.2)
    said = capfd.readouterr().err
    assert "hybridseg: load models: 0:00 min\n" in said
    assert "hybridseg: refine: 1 of 1,400 windows, 12 objects, 0:00 min\n" in said
    time.sleep(0.2)
    assert capfd.readouterr().err == "", "it has ended"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_shows_bars_and_the_error_below_them():
    import pty

    ours, theirs = pty.openpty()
    code = (
        "from hybridseg.run.progress import reporter\n"
        "with reporter([]) as said:\n"
        "    said.start('load models', None, ''); said.start('refine', 2); said.step(3); said.step()\n"
        "    said.say('no [red]luck[/red]', 'error')"
    )
    environment = os.environ | {"COLUMNS": "100", "TERM": "xterm"}
    subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True, env=environment)
    os.close(theirs)
    said = os.read(ours, 1 << 16).decode()
    assert "2/2 windows 3 objects" in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", said)
    assert said.rstrip().endswith("hybridseg: no [red]luck[/red]")


def test_no_progress_is_silence(blocks: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    words = ["extract", str(blocks), str(tmp_path / "out.gpkg"), "--refiner", "none", "--device", "cpu"]
    assert main([*words, "--progress", "none"]) == 0
    assert capfd.readouterr().err == ""


def test_a_reader_that_has_seen_enough_is_no_fault(models: Path):
    command = f"{sys.executable} -m hybridseg models --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
    assert done.stderr == ""


# --- when all is well -------------------------------------------------------------------------------------------------


def test_json_is_one_object_and_nothing_else(blocks: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    out = tmp_path / "out.gpkg"
    assert main(["extract", str(blocks), str(out), "--refiner", "none", "--device", "cpu", "--json"]) == 0
    said, err = capfd.readouterr()
    summary = json.loads(said)
    assert said.count("\n") == 1
    assert err == ""
    assert summary["scene"] == str(blocks)
    assert summary["out"] == str(out)
    assert summary["theme"] == "buildings"
    assert summary["refiner"] == "none"
    assert summary["failures"] == []
    assert summary["features"] == len(read_result(out))


def test_a_person_is_told_where_the_result_is(blocks: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    out = tmp_path / "out.geojson"
    assert main(["extract", str(blocks), str(out), "--refiner", "none", "--device", "cpu"]) == 0
    said = capfd.readouterr().out
    assert "features" in said
    assert str(out) in re.sub(r"\s", "", said), "the path is cut short"
    assert out.exists()


def test_the_module_runs_as_the_command_does(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "hybridseg", "extract", "none.tif", str(tmp_path / "out.gpkg"), "--progress", "none"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "hybridseg: none.tif does not exist; give the path of a raster file\n"
