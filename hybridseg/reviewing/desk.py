"""All that a review is about, opened: the scene, the map, the models and the edits."""

from __future__ import annotations

import getpass
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import geopandas as gpd

from hybridseg.errors import OutputError, ReviewError
from hybridseg.files import check_not_input, check_output
from hybridseg.nn.sam2.looks import Looks
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.read.opening import files_of, open_scene
from hybridseg.read.scene import Scene
from hybridseg.reviewing.audit import Audit
from hybridseg.reviewing.check import check, on_scene
from hybridseg.reviewing.difference import difference_of
from hybridseg.reviewing.draft import Drafts
from hybridseg.reviewing.edits import Edits
from hybridseg.reviewing.findings import Finding, ranked
from hybridseg.reviewing.given import file_of, fingerprint, frame_of, objects_of, provenance_of, theme_of
from hybridseg.reviewing.objects import MACHINE, PRESENT, Action, Done, Kind, Object
from hybridseg.reviewing.order import Order
from hybridseg.reviewing.records import Filter
from hybridseg.reviewing.seen import Sight
from hybridseg.reviewing.segment import Segmenter
from hybridseg.reviewing.teaching import Teaching
from hybridseg.reviewing.tiles import Tiles
from hybridseg.run.progress import Progress
from hybridseg.run.provenance import Credit, Provenance, as_json, input_of
from hybridseg.run.request import parse_bands, parse_nodata
from hybridseg.run.survey import Survey
from hybridseg.run.themes import resolve_themes
from hybridseg.theme import Theme
from hybridseg.write.formats import FORMATS
from hybridseg.write.result import write_result

LOOKS = 8
"""Of sam2-lite at each place that somebody clicks on: a person waits for one object, an extraction for all."""
_BATCH = 200  # objects asked for at once when walking along an order


@dataclass(frozen=True, eq=False)
class Desk:
    """A review, open.

    scene: the imagery, stretched as the extraction saw it.
    themes: what was looked for.
    before: objects of the extraction, by key.
    order: the queue.
    audit: what the decisions say of the map.
    edits: the store.
    segmenter: answers clicks.
    drafts: answers them before it can.
    sight: shows what the models see.
    teaching: learns from the decisions.
    who: the person.
    provenance: of the extraction; empty where the map does not say.
    result: the map, or a layer from elsewhere; None: the review began with none.
    findings: what imagery says of a layer from elsewhere, by key.
    """

    scene: Scene
    themes: tuple[Theme, ...]
    before: Mapping[int, Object]
    order: Order
    audit: Audit
    edits: Edits
    segmenter: Segmenter
    drafts: Drafts
    sight: Sight
    teaching: Teaching
    who: str
    provenance: Mapping[str, Any]
    result: str | Path | None = None
    findings: Mapping[int, Finding] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        scene: Any,
        result: str | Path | None = None,
        *,
        theme: str | None = None,
        refiner: str | None = None,
        bands: str | None = None,
        source_crs: str | None = None,
        edits: str | Path | None = None,
        who: str | None = None,
        device: str = "auto",
        layer: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Desk:
        """Open everything; arguments as of the verb `review`, and who is told how far the check of a layer is.

        Raises:
            HybridsegError: something cannot be used; one line says what.
        """
        if layer is not None and result is not None:
            raise ReviewError(f"{result} and --layer {layer} came; review one of them at a time")
        provenance = provenance_of(result)
        result = result if layer is None else layer
        asked = provenance.get("request", {})
        while isinstance(asked.get("map"), dict):  # the map is the export of a review
            asked = asked["map"].get("request", {})
        if theme is None and (texts := asked.get("themes")):
            themes = [theme_of(text) for text in texts]
        else:
            themes = resolve_themes(theme)
        opened = open_scene(
            scene,
            bands=parse_bands(bands) if bands is not None else asked.get("bands"),
            crs=source_crs or asked.get("source_crs"),
            nodata=parse_nodata(asked.get("nodata")),
        )
        path = file_of(scene, result) if edits is None else Path(edits)
        check_not_input(path, [*files_of(opened), result])
        objects = [] if result is None else objects_of(result, opened.crs, themes[0].label)
        if layer is not None or objects:
            there = on_scene(objects, opened, result)
            objects = there if layer is not None else objects
        mark = fingerprint(objects)
        facts = {"scene": opened.fingerprint, "map": mark}
        named = refiner or next((one for one in asked.get("refiners", []) if one != "none"), themes[0].refiner)
        model = Looks.of(load_refiner("sam2-lite" if named == "none" else named, device, runtime="auto"), LOOKS)
        segmenter = Segmenter(opened, model, themes[0].prompts.span, themes[0].prompts.max_zoom)
        if layer is not None:
            facts["check"] = "against imagery"
        if layer is not None and not path.exists():
            check_output(path, [".gpkg"])
            surveys = [Survey.open(opened, one, named, device, progress=progress) for one in themes]
            scored, said = check(objects, surveys)
            store = Edits.open(path, scored, opened.crs, facts, said)
        else:
            store = Edits.open(path, objects, opened.crs, facts)
        findings, seed = store.findings(), int(mark[:12], 16)
        before = {one.key: one for one in objects}
        order = Order.of(objects, seed)
        if findings:
            order = Order.mixed(ranked(findings), list(before), seed)
        return cls(
            scene=opened,
            themes=tuple(themes),
            before=before,
            order=order,
            audit=Audit(opened, before, order, store, seed),
            edits=store,
            segmenter=segmenter,
            drafts=Drafts(opened, themes, device),
            sight=Sight(opened, themes, None if named == "none" else model, device),
            teaching=Teaching(opened, themes, store, named, device),
            who=who or _user(),
            provenance=provenance,
            result=result,
            findings=findings,
        )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Classes that an object may have: those looked for, and those of the map."""
        found = [theme.label for theme in self.themes] + sorted({one.label for one in self.before.values()})
        return tuple(dict.fromkeys(found))

    @cached_property
    def tiles(self) -> Tiles:
        """The scene as tiles."""
        return Tiles(self.scene)

    def shaped(self, geometry: Any, label: str) -> Any:
        """Return an outline as the theme of its class shapes it: with right angles, or without the steps of pixels."""
        theme = next((one for one in self.themes if one.label == label), self.themes[0])
        frame = gpd.GeoDataFrame(
            {"id": [label], "class": [label], "score": [1.0]}, geometry=[geometry], crs=self.scene.crs
        )
        shaped = theme.shape.shape(frame, self.scene.gsd_m)
        found = shaped.geometry.iloc[0] if len(shaped) else geometry
        return geometry if found is None or found.is_empty else found

    @property
    def line(self) -> tuple[int, ...]:
        """Keys in the queue: the extraction's, then those that came since, as they came."""
        return self.order.keys + tuple(self.edits.later(len(self.order)))

    def queue(
        self, position: int, step: int, count: int, undecided: bool = False, only: Filter | None = None
    ) -> list[tuple[int, Object]]:
        """Return places in the queue with their objects.

        Args:
            position: the first that may be given.
            step: 1 (on) or -1 (back).
            count: most objects.
            undecided: whether others are passed over.
            only: whatever it does not let through is passed over; None: nothing.
        """
        line = self.line
        chosen = None if only is None else self.matching(only)
        places = range(min(position, len(line) - 1) if step < 0 else position, len(line) if step > 0 else -1, step)
        wanted = places if chosen is None else [place for place in places if line[place] in chosen]
        found: list[tuple[int, Object]] = []
        for start in range(0, len(wanted), _BATCH):
            batch = wanted[start : start + _BATCH]
            states = self.edits.states([line[place] for place in batch])
            there = {key for key, (verdict, _) in states.items() if not undecided or verdict in ("unseen", "proposed")}
            here = [place for place in batch if line[place] in there][: count - len(found)]
            found += zip(here, self.edits.get(line[place] for place in here), strict=True)
            if len(found) == count:
                break
        return found

    def matching(self, only: Filter) -> dict[int, bool]:
        """Return the keys that a filter lets through, and whether a person has still to decide on each."""
        mx, my = self.scene.metres_per_unit
        return self.edits.matching(only, mx * my)

    def decide(self, kind: Kind, *keys: int, label: str | None = None, geometry: Any = None) -> Done:
        """Decide on objects as they are now, as the page does by key and click.

        Args:
            kind: accept, reject, relabel, replace, add, delete, split or merge.
            keys: of the objects.
            label: as of `Action`.
            geometry: as of `Action`, in the scene's CRS.

        Raises:
            ReviewError: there is no such object, or the action makes no sense of it.
        """
        seen = {key: version for key, (_, version) in self.edits.states(keys).items()}
        return self.edits.act(Action(kind, label, geometry), {key: seen.get(key, 0) for key in keys}, self.who)

    def export(self, path: Path, decided_only: bool = False, difference: bool = False) -> int:
        """Write the map as it is now, with verdict and lineage; returns the number of objects.

        Args:
            path: the suffix chooses the format, as of `extract`.
            decided_only: leave out what nobody has looked at yet.
            difference: write how it differs from what the review began with instead, see `difference_of`.

        Raises:
            OutputError: it cannot be written there.
        """
        check_not_input(path, [self.edits.path, self.result, *files_of(self.scene)])
        objects = self.edits.all()
        if difference:
            frame = difference_of(objects, self.before, self.findings, self.scene)
            frame = frame[~(frame["verdict"].isin(MACHINE) & decided_only)]
        else:
            chosen = [one for one in objects if one.present and not (decided_only and one.verdict == "unseen")]
            frame = frame_of(chosen, self.scene.crs)
        there = self.edits.counts()
        counts = {verdict: there.get(verdict, 0) for verdict in (*PRESENT, "rejected", "deleted")}
        given = {"layer": input_of(self.result)} if self.findings else {}
        asked = {**given, "review": self.edits.path.name, "actions": self.edits.head, "verdicts": counts}
        model = self.segmenter.model
        models = {**self.provenance.get("models", {}), model.name: model.sha256}
        credits = [Credit(**credit) for credit in self.provenance.get("credits") or ()]
        made = Provenance.collect(self.scene, models, as_json({**asked, "map": self.provenance}), credits)
        write_result(frame, path, made.to_dict())
        return len(frame)

    def exported(self, suffix: str, decided_only: bool, difference: bool = False) -> bytes:
        """Return the export as the bytes of one file.

        Args:
            suffix: one of `FORMATS`.
            decided_only: as of `export`.
            difference: as of `export`.
        """
        if suffix not in FORMATS:
            raise OutputError(f"{suffix[:20]!r} is no format; choose one of {', '.join(sorted(FORMATS))}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{self.edits.path.stem}{suffix}"
            self.export(path, decided_only, difference)
            return path.read_bytes()

    def close(self) -> None:
        """Close the review file."""
        self.teaching.forget()
        self.edits.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return os.environ.get("USERNAME", "someone")
