"""Improve and propose: what the machine makes of the decisions, in the background; a person agrees to it or not."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from itertools import count as count_from
from pathlib import Path
from typing import Literal

from hybridseg.errors import HybridsegError, ReviewError
from hybridseg.finetuning.model import model_at
from hybridseg.read.scene import Scene
from hybridseg.reviewing.edits import Edits
from hybridseg.reviewing.improve import Improvement, found_anew, missing, regrouped
from hybridseg.reviewing.lesson import Lesson, teach
from hybridseg.reviewing.objects import Done, Object
from hybridseg.reviewing.order import doubt
from hybridseg.run.progress import Progress, Quiet
from hybridseg.run.survey import Survey
from hybridseg.search import write_theme
from hybridseg.theme import Theme

Kind = Literal["improve", "propose"]


@dataclass
class Steps:
    """How far a job is: a `Progress` that is read from another thread."""

    sweep: str = "learn"
    done: int = 0
    total: int | None = None

    def start(self, sweep: str, total: int | None, unit: str = "windows") -> None:
        """Begin a sweep."""
        self.sweep, self.done, self.total = sweep, 0, total

    def step(self, objects: int = 0) -> None:
        """Count a window."""
        self.done += 1


@dataclass(frozen=True)
class Job:
    """What is done, or was.

    kind: improve or propose.
    label: the class.
    steps: how far it is.
    found: what would change; None: it is not done yet.
    error: why it failed; empty: it did not.
    """

    kind: Kind
    label: str
    steps: Steps = field(default_factory=Steps)
    found: Improvement | None = None
    error: str = ""


@dataclass(eq=False)
class Teaching:
    """Learns from the decisions of one review. One job at a time; any thread may call.

    scene, themes, edits: of the review.
    refiner: name of the one that draws outlines, or `none`.
    device: auto, cpu, cuda, mps.
    """

    scene: Scene
    themes: Sequence[Theme]
    edits: Edits
    refiner: str
    device: str = "auto"

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._learnt: tuple[Improvement, Path] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes of single objects, which can be found anew; regions cannot."""
        return tuple(one.label for one in self.themes if one.objects.kind == "instances")

    @property
    def folder(self) -> Path:
        """Where the model of an improvement that was agreed to lies: beside the review file, as in map.review.model."""
        return self.edits.path.with_suffix(".model")

    @property
    def job(self) -> Job | None:
        """What is done now, or was done last and is not agreed to yet."""
        with self._lock:
            return self._job

    def improve(self, label: str | None = None, progress: Progress | None = None) -> Improvement:
        """Learn from the decisions, and return what would change of what nobody has decided on.

        Args:
            label: the class; default: the first theme's.
            progress: told how far it is.

        Raises:
            ReviewError: too few decisions, or a classifier that cannot be corrected.
        """
        theme = self._theme(label)
        objects = self.edits.all()
        taught = teach(Lesson.of(objects, theme.label, self.scene), self.scene, theme, self.device)
        model = Path(tempfile.mkdtemp(prefix="hybridseg-review-"))
        try:
            taught.save(model)
            write_theme(theme.model_copy(update={"classifier": "."}), model / "theme.yaml", "after a review")
            found = found_anew(objects, self._survey(theme, str(model), progress))
        except BaseException:
            shutil.rmtree(model)
            raise
        self._hold((found, model))
        return found

    def propose(self, label: str | None = None, progress: Progress | None = None) -> Improvement:
        """Return what may be missing: objects that the heatmap shows faintly, where there is none, and other groupings.

        Neighbours may be one object, and an object several, see `regrouped`.

        Args:
            label: the class; default: the first theme's.
            progress: told how far it is.

        Raises:
            HybridsegError: the theme's objects have no peaks, or its classifier cannot be had.
        """
        theme = self._theme(label)
        learnt = str(self.folder) if (self.folder / "card.yaml").is_file() else theme.classifier
        objects, survey = self.edits.all(), self._survey(theme, learnt, progress)
        heatmap = survey.heatmap()
        found = missing(objects, survey, heatmap)
        return replace(found, changes=(*found.changes, *((None, one) for one in regrouped(objects, survey, heatmap))))

    def agree(self, found: Improvement, who: str, kind: Kind = "improve") -> Done:
        """Put what was found on the map, as one action that undo takes back; what was decided since stays as it is.

        Args:
            found: what `improve` or `propose` returned.
            who: the person.
            kind: which of them.
        """
        objects = self.edits.all()
        changes = found.free_of(objects)
        fresh = _named_apart(_by_doubt([new for old, new in changes if old is None]), {one.id for one in objects})
        pairs = [*(pair for pair in changes if pair[0] is not None), *((None, new) for new in fresh)]
        done = self.edits.change(kind, pairs, who)
        if self._learnt is not None and self._learnt[0] is found:
            with model_at(self.folder) as beside:
                shutil.copytree(self._learnt[1], beside, dirs_exist_ok=True)
            self._hold(None)
        return done

    def take(self) -> Job:
        """Return what was found, once: of two who agree at a time, the second is told that there is nothing.

        Raises:
            ReviewError: nothing was found yet.
        """
        with self._lock:
            job = self._job
            if job is None or job.found is None:
                raise ReviewError("nothing was found yet that could be agreed to; ask for it first")
            self._job = None
        return job

    def begin(self, kind: Kind, label: str | None = None) -> None:
        """Start `improve` or `propose` in the background.

        Raises:
            ReviewError: one is under way, or cannot begin.
        """
        theme = self._theme(label)
        if kind == "improve":
            Lesson.of(self.edits.all(), theme.label, self.scene)  # refuses at once
        with self._lock:
            if self._job is not None and self._job.found is None and not self._job.error:
                raise ReviewError(f"{self._job.kind} is under way; wait until it is done")
            job = self._job = Job(kind, theme.label)
        work = self.improve if kind == "improve" else self.propose
        threading.Thread(target=self._run, args=(job, work), daemon=True).start()

    def forget(self) -> None:
        """Drop what was found; a job under way goes on, and what it finds is dropped."""
        with self._lock:
            self._job = None
        self._hold(None)

    def _hold(self, learnt: tuple[Improvement, Path] | None) -> None:
        """Keep the model of the last improvement until it is agreed to or forgotten."""
        with self._lock:
            former, self._learnt = self._learnt, learnt
        if former is not None:
            shutil.rmtree(former[1], ignore_errors=True)

    def _run(self, job: Job, work: Callable[..., Improvement]) -> None:
        found, error = None, ""
        try:
            found = work(job.label, job.steps)
        except HybridsegError as refused:
            error = str(refused)
        except Exception as fault:  # a thread has nobody to raise to
            error = f"a fault of hybridseg itself: {type(fault).__name__}: {fault}"[:300]
        with self._lock:
            if self._job is job:
                self._job = Job(job.kind, job.label, job.steps, found, error)

    def _theme(self, label: str | None) -> Theme:
        theme = next((one for one in self.themes if label in (None, one.label)), None)
        if theme is None:
            known = ", ".join(one.label for one in self.themes)
            raise ReviewError(f"no theme of this review finds class {label}; choose one of {known}")
        if theme.objects.kind != "instances":
            raise ReviewError(f"theme {theme.name} finds regions; only single objects can be found anew from decisions")
        return theme

    def _survey(self, theme: Theme, classifier: str, progress: Progress | None) -> Survey:
        looking = theme.model_copy(update={"classifier": classifier})
        # a converted network is kept for good, and this one is used once
        return Survey.open(self.scene, looking, self.refiner, self.device, "torch", progress=progress or Quiet())


def _named_apart(objects: Sequence[Object], taken: set[str]) -> list[Object]:
    """The objects, each with an id that no other has."""
    made = []
    for one in objects:
        names = (f"{one.id}#{number}" for number in count_from(2))
        name = next(name for name in chain([one.id], names) if name not in taken)
        taken.add(name)
        made.append(replace(one, id=name))
    return made


def _by_doubt(objects: Sequence[Object]) -> list[Object]:
    """The objects, the most doubtful first; the parts of one follow each other."""
    ordered = [objects[place] for place in doubt(objects).tolist()]
    first: dict[tuple[str, ...], int] = {}
    for place, one in enumerate(ordered):
        first.setdefault(one.parents or (one.id,), place)
    return sorted(ordered, key=lambda one: first[one.parents or (one.id,)])
