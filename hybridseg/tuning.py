"""The verb `tune`: from a theme and labelled scenes to the theme with the settings that score best there."""

from __future__ import annotations

from pathlib import Path

from hybridseg.files import check_output
from hybridseg.labels.labelled import Labelled, read_labelled
from hybridseg.read.opening import open_scene
from hybridseg.run.progress import Progress, Quiet
from hybridseg.run.request import Paths, join_arguments, parse_bands
from hybridseg.search import search_theme, write_theme
from hybridseg.theme import load_theme, theme_path


def tune(
    theme: str,
    out: Path,
    *,
    scene: Paths,
    labels: Paths,
    within: Paths | None = None,
    bands: str | None = None,
    refiner: str = "sam2-lite",
    device: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Find a theme's thresholds, prompts and gate on labelled scenes, and write them as a theme's YAML.

    Args:
        theme: what to start from: a name or the path of a theme's YAML.
        out: the YAML to write; then `hybridseg extract SCENE OUT --theme FILE`.
        scene: one raster or several; not those that the classifier was trained on.
        labels: layer with every object of the theme, one for each scene, in order.
        within: polygon layer inside which every object is drawn, one for each scene; default: the whole scene.
        bands: numbers of the red, green and blue bands, as in 4,3,2.
        refiner: as for extract; the theme gets `none` where the coarse outlines score better.
        device: auto, cpu, cuda, mps.
        progress: told how far the search is (Python only).

    Returns:
        the path of the YAML.

    Raises:
        HybridsegError: bad input; one line that says what came, what is allowed and what to do.
    """
    start, chosen = load_theme(theme), parse_bands(bands)
    given = join_arguments(scene, labels, within)
    check_output(out, (".yaml", ".yml"), [theme_path(theme), *(path for of_scene in given for path in of_scene)])
    places: list[Labelled] = []
    for path, layer, area in given:
        opened = open_scene(path, bands=chosen)
        places.append(read_labelled(opened, layer, {start.label: None}, complete_within=area).of_class(start.label))
    best, report = search_theme(start, places, refiner, device, progress or Quiet())
    scenes = ", ".join(Path(place.scene.name).name for place in places)
    return write_theme(best.model_copy(update={"name": out.stem}), out, f"{start.name} tuned on {scenes}: {report}")
