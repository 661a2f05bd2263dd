"""What decisions teach, and what a review costs: `python -m benchmarks.review [DATA]`.

On each place the objects of one half are decided by the reference, in three orders; a linear head learns from the first
10, 30 and 100 decisions. F1 (IoU 0.5) is of the other half, of which nothing was decided. Then one session on the first
place: what a person would press and click to bring the first objects of the queue to what the reference says.

Writes benchmarks/results/review.json, and the tables between the marks of docs/review.md.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from benchmarks.places import Place, places
from hybridseg.errors import ReviewError
from hybridseg.metrics.objects import match
from hybridseg.reviewing.given import objects_of
from hybridseg.reviewing.improve import found_anew
from hybridseg.reviewing.lesson import Lesson, teach
from hybridseg.reviewing.objects import Object
from hybridseg.reviewing.order import Order
from hybridseg.reviewing.segment import Clicks, Segmenter
from hybridseg.run.survey import Survey
from hybridseg.shape.geometry import iou
from hybridseg.theme import load_theme

PLACES = ("Kampala west", "Dhaka", "Khartoum")
COUNTS = (10, 30, 100)
SESSION = 60
"""Objects of the session."""
GOOD_IOU = 0.8
"""At which the session's person keeps an outline."""
MOST_CLICKS = 6
"""After which the session's person draws by hand."""
RESULTS = Path(__file__).parent / "results" / "review.json"
DOCS = Path(__file__).parent.parent / "docs" / "review.md"


@dataclass(frozen=True, eq=False)
class Reviewed:
    """A place with the map of it that is reviewed.

    place: with its reference.
    objects: of the map, inside the place's area.
    truth: reference outlines there.
    axis, cut: the taught half has its centroids below `cut` along the axis.
    """

    place: Place
    objects: list[Object]
    truth: np.ndarray
    axis: int
    cut: float

    @classmethod
    def of(cls, place: Place) -> Reviewed:
        """Extract a place."""
        survey = Survey.open(place.scene, load_theme("buildings"), device="cpu", ground=place.extent)
        rows = survey.features(survey.refine(survey.prompts())).rows
        found = objects_of(rows, place.scene.crs, "building")
        found = [one for one in found if place.area.contains(one.geometry.representative_point())]
        truth = place.truth.geometry.to_numpy()
        truth = truth[shapely.contains(place.area, shapely.point_on_surface(truth))]
        middles = shapely.get_coordinates(shapely.centroid(truth))
        axis = int(np.ptp(middles[:, 1]) > np.ptp(middles[:, 0]))
        return cls(place, found, truth, axis, float(np.median(middles[:, axis])))

    def taught(self, shapes: np.ndarray) -> np.ndarray:
        """Which shapes lie in the half that is decided on."""
        return shapely.get_coordinates(shapely.centroid(shapes))[:, self.axis] < self.cut

    def f1(self, objects: Sequence[Object]) -> float:
        """F1 of the half of which nothing is decided; a partner may lie across the border."""
        shapes, truth = _shapes([one for one in objects if one.present]), self.truth
        own, real = shapes[~self.taught(shapes)], truth[~self.taught(truth)]
        precision = len(match(own, truth, iou=0.5).pred) / max(len(own), 1)
        recall = len(match(shapes, real, iou=0.5).truth) / len(real)
        return round(2 * precision * recall / max(precision + recall, 1e-9), 3)

    def decisions(self) -> dict[int, Object]:
        """What a person who knows the reference makes of each object, by key.

        Accepted: IoU 0.5 with a reference object. Corrected: it is one that no other object is. Deleted without a
        verdict on its class: a part of buildings that are there already. Rejected: mostly no building.
        """
        truth, shapes = self.truth, _shapes(self.objects)
        pairs = match(shapes, truth, iou=0.5)
        right, taken = set(pairs.pred.tolist()), set(pairs.truth.tolist())
        everything, made = shapely.union_all(truth), {}
        for number, one in enumerate(self.objects):
            share = iou(np.full(len(truth), one.geometry), truth)
            best = int(share.argmax())
            if number in right:
                made[one.key] = replace(one, verdict="accepted")
            elif share[best] >= 0.1 and best not in taken:
                taken.add(best)
                made[one.key] = replace(one, verdict="corrected", geometry=truth[best])
            elif one.geometry.intersection(everything).area > 0.3 * one.geometry.area:
                made[one.key] = replace(one, verdict="deleted")
            else:
                made[one.key] = replace(one, verdict="rejected")
        return made

    def orders(self) -> dict[str, Sequence[int]]:
        """Keys of the half that is decided on, in each order."""
        mine = [one for one, taught in zip(self.objects, self.taught(_shapes(self.objects)), strict=True) if taught]
        order = Order.of(mine, 1)
        lowest = sorted(mine, key=lambda one: one.score)
        return {"queue": order.keys, "random": order.drawn, "lowest score": [one.key for one in lowest]}

    def learn(self, decided: Sequence[int]) -> dict[str, Any]:
        """F1 after learning from the decisions on some objects, and what that changed in the other half."""
        said = self.decisions()
        now = [said[one.key] if one.key in set(decided) else one for one in self.objects]
        theme, begun = load_theme("buildings"), time.process_time()
        try:
            lesson = Lesson.of(now, "building", self.place.scene)
        except ReviewError:
            return {"decisions": len(decided), "f1": None}
        taught = teach(lesson, self.place.scene, theme, "cpu")
        fitted = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            taught.save(Path(folder) / "model")
            looking = theme.model_copy(update={"classifier": str(Path(folder) / "model")})
            survey = Survey.open(self.place.scene, looking, device="cpu", runtime="torch", ground=self.place.extent)
            found = found_anew(now, survey)
        after = {one.key: one for one in now}
        after |= {new.key: new for old, new in found.changes if old is not None}
        every = [*after.values(), *(new for old, new in found.changes if old is None)]
        return {
            "decisions": len(decided),
            "rejected": lesson.false,
            "f1": self.f1(every),
            "new": len(found.new), "gone": len(found.gone), "changed": len(found.changed),
            "fit_cpu_s": round(fitted - begun, 1), "look_cpu_s": round(time.process_time() - fitted, 1),
        }  # fmt: skip

    def session(self, count: int) -> dict[str, Any]:
        """Keys and clicks to bring the first objects of the queue to the reference; seconds of machine a click."""
        said, by_key = self.decisions(), {one.key: one for one in self.objects}
        survey = Survey.open(self.place.scene, load_theme("buildings"), device="cpu", ground=self.place.extent)
        clicking = Segmenter(self.place.scene, survey.models.refiner, 0.3, 4.0)
        rows, hand = [], []
        for key in self.orders()["queue"][:count]:
            now, begun = said[key], time.process_time()
            keys, clicks, drawn = 1, 0, False
            if now.verdict == "corrected":
                keys, clicks = 2, _clicks(clicking, by_key[key], now.geometry)
                corners = len(now.geometry.exterior.coords) - 1
                drawn = clicks > MOST_CLICKS
                clicks = MOST_CLICKS + corners if drawn else clicks
                hand.append(corners)
            rows.append((now.verdict, keys, clicks, drawn, time.process_time() - begun))
        verdicts = [row[0] for row in rows]
        corrected = [row for row in rows if row[0] == "corrected"]
        return {
            "objects": len(rows),
            "accepted_unchanged": round(verdicts.count("accepted") / len(rows), 3),
            "corrected": len(corrected),
            "drawn_by_hand": sum(row[3] for row in rows),
            "keys_an_object": round(statistics.mean(row[1] for row in rows), 2),
            "clicks_an_object": round(statistics.mean(row[2] for row in rows), 2),
            "clicks_a_corrected_object": round(statistics.mean(row[2] for row in corrected), 1) if corrected else None,
            "corners_of_a_corrected_object": round(statistics.mean(hand), 1) if hand else None,
            "corners_an_object_of_the_reference": round(float(np.mean(shapely.get_num_coordinates(self.truth) - 1)), 1),
            "machine_cpu_s_an_object": round(statistics.mean(row[4] for row in rows), 2),
        }


def _clicks(clicking: Segmenter, one: Object, wanted: shapely.Polygon) -> int:
    """Clicks until a reading has `GOOD_IOU`: each in the middle of the largest error; above `MOST_CLICKS`: none has."""
    target, outline = clicking.in_pixels(wanted), clicking.in_pixels(one.geometry)
    points, labels, token = list[tuple[float, float]](), list[int](), None
    side = 4 * max(target.bounds[2] - target.bounds[0], target.bounds[3] - target.bounds[1])
    for number in range(1, MOST_CLICKS + 1):
        lacks, much = target.difference(outline), outline.difference(target)
        wrong, on = (lacks, 1) if lacks.area >= much.area or not points else (much, 0)
        if not points:
            wrong = target
        parts = shapely.get_parts(wrong)
        place = shapely.maximum_inscribed_circle(parts[shapely.area(parts).argmax()]).coords[0]
        points.append((place[0], place[1]))
        labels.append(on)
        found = clicking.segment(Clicks(np.array(points), np.array(labels, np.int32), None, side), token)
        if not found:
            continue
        shares = [float(iou(clicking.in_pixels(each.outline), target)) for each in found]
        best = int(np.argmax(shares))
        if shares[best] >= GOOD_IOU:
            return number
        token, outline = found[best].token, clicking.in_pixels(found[best].outline)
    return MOST_CLICKS + 1


def _shapes(objects: Sequence[Object]) -> np.ndarray:
    return np.array([one.geometry for one in objects], dtype=object)


def measure(data: Path) -> None:
    """Measure all places, one after another; what is done is written at once."""
    made: dict[str, Any] = {"command": "python -m benchmarks.review", "threads": os.environ.get("OMP_NUM_THREADS")}
    made["places"] = []
    with tempfile.TemporaryDirectory() as work:
        known = {one.name: one for one in places(data, Path(work)) if one.theme == "buildings"}
        for name in PLACES:
            reviewed = Reviewed.of(known[name])
            row: dict[str, Any] = {"place": name, "objects": len(reviewed.objects), "f1": reviewed.f1(reviewed.objects)}
            if name == PLACES[0]:
                made["session"] = {"place": name, **reviewed.session(SESSION)}
                print(made["session"], flush=True)
            row["orders"] = {}
            for order, keys in reviewed.orders().items():
                row["orders"][order] = []
                for count in COUNTS:
                    row["orders"][order].append({"asked": count, **reviewed.learn(keys[:count])})
                    print(name, row["f1"], order, row["orders"][order][-1], flush=True)
            made["places"].append(row)
            RESULTS.write_text(json.dumps(made, indent=1) + "\n")


def page(made: dict[str, Any]) -> str:
    """The tables of docs/review.md."""
    lines = ["| place, order | 0 | " + " | ".join(str(count) for count in COUNTS) + " |", "|---|" + "---|" * 4]
    for row in made["places"]:
        for order, found in row["orders"].items():
            cells = ["refused" if one["f1"] is None else f"{one['f1']:.3f}" for one in found]
            lines.append(f"| {row['place']}, {order} | {row['f1']:.3f} | {' | '.join(cells)} |")
    one = made["session"]
    said = {
        "accepted unchanged": f"{100 * one['accepted_unchanged']:.0f} %",
        "keys an object": one["keys_an_object"], "clicks an object": one["clicks_an_object"],
        "clicks a corrected object": one["clicks_a_corrected_object"],
        "corners of a corrected object, drawn by hand": one["corners_of_a_corrected_object"],
        "corners of any object of the reference": one["corners_an_object_of_the_reference"],
        "corrected objects that clicks did not reach": f"{one['drawn_by_hand']} of {one['corrected']}",
        "processor seconds an object": one["machine_cpu_s_an_object"],
    }  # fmt: skip
    table = [f"| {one['objects']} objects of {one['place']} | |", "|---|---|"]
    return "\n".join([*lines, "", *table, *(f"| {what} | {value} |" for what, value in said.items())])


if __name__ == "__main__":
    measure(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))
    tables = page(json.loads(RESULTS.read_text()))
    text = DOCS.read_text()
    DOCS.write_text(re.sub(r"(?s)(<!-- review -->\n).*(<!-- end -->)", lambda m: m[1] + tables + "\n" + m[2], text))
