"""The verbs `review` and `serve`."""

from __future__ import annotations

import os
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybridseg.errors import HybridsegError, MissingExtra
from hybridseg.files import check_output
from hybridseg.run.progress import Progress
from hybridseg.write.formats import FORMATS


def review(
    scene: Any,
    result: str | Path | None = None,
    *,
    theme: str | None = None,
    refiner: str | None = None,
    bands: str | None = None,
    source_crs: str | None = None,
    edits: str | Path | None = None,
    who: str | None = None,
    layer: str | Path | None = None,
    export: str | Path | None = None,
    decided_only: bool = False,
    difference: bool = False,
    browser: bool = True,
    host: str = "127.0.0.1",
    port: int = 0,
    others_may_connect: bool = False,
    idle_minutes: float = 60.0,
    device: str = "auto",
    ready: Callable[[Any], None] | None = None,
    progress: Progress | None = None,
) -> int:
    """Open a page where a person checks and corrects a map by clicking; every decision is saved at once.

    Args:
        scene: the raster that the map was made of, or any other that shows the same ground.
        result: the map: what `extract` wrote, or any layer of polygons; it is never changed. Without one the review
            begins with an empty map.
        theme: what a map looks for that does not say it: buildings, fields, roads, solar, water, or the path of a
            YAML; several with commas between.
        refiner: what answers clicks, as of `extract`; default: what the map was made with.
        bands: numbers of the red, green and blue bands, as in 4,3,2; default: those that the map was made with.
        source_crs: CRS of a scene that states none.
        edits: the review file (.gpkg); default: beside the map, as in map.review.gpkg. One that is there goes on.
        who: name that is written beside each decision; default: that of the account.
        layer: in place of a map, any layer of polygons from elsewhere, as an OpenStreetMap extract or last year's
            cadastre, to be held against the imagery when the review begins: what is shown elsewhere, not shown, and
            lacking comes first. `theme` says what its objects are.
        export: write the map as it is now to this file (.gpkg, .parquet, .fgb, .geojson) and open no page.
        decided_only: export only what somebody has decided on.
        difference: export how the map differs from the one that came: added, removed, moved, changed and kept objects
            with their old ids.
        browser: open the page in the browser, not only print its address.
        host: address to listen on; another than this machine's own needs others_may_connect.
        port: to listen on; 0 for any free one.
        others_may_connect: allow another host: whoever has the token and reaches this machine may look and change, and
            nothing is encrypted on the way.
        idle_minutes: the server ends when nobody has asked anything for so long; an open page asks all the time.
        device: auto, cpu, cuda, cuda:1, mps.
        ready: told the `Address` when the server can be asked (Python only).
        progress: told how far the check of a layer is (Python only).

    Returns:
        the number of objects exported, or 0 after the page was served.

    Raises:
        HybridsegError: bad input; one line that says what came, what is allowed and what to do.
    """
    _check(host, others_may_connect, idle_minutes)
    if difference and export is None:
        raise HybridsegError("--difference came without --export; give the file to write, as in --export diff.gpkg")
    if export is not None:
        check_output(export, FORMATS)
    from hybridseg.reviewing.desk import Desk

    with Desk.open(
        scene, result, theme=theme, refiner=refiner, bands=bands, source_crs=source_crs, edits=edits, who=who,
        device=device, layer=layer, progress=progress,
    ) as desk:  # fmt: skip
        if export is not None:
            return desk.export(Path(export), decided_only, difference)
        serving = _serving(desk, True, host, port, others_may_connect, ready)
        if browser:
            webbrowser.open(serving.address.link)
        serving.run(idle_minutes * 60)
    return 0


def serve(
    scene: Any,
    result: str | Path | None = None,
    *,
    theme: str | None = None,
    refiner: str | None = None,
    bands: str | None = None,
    source_crs: str | None = None,
    edits: str | Path | None = None,
    who: str | None = None,
    layer: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    others_may_connect: bool = False,
    idle_minutes: float = 60.0,
    with_parent: bool = False,
    device: str = "auto",
    ready: Callable[[Any], None] | None = None,
    progress: Progress | None = None,
) -> None:
    """Serve a review without the page, for another program such as a plug-in of a desktop GIS.

    Args:
        scene: as of `review`.
        result: as of `review`.
        theme: as of `review`.
        refiner: as of `review`.
        bands: as of `review`.
        source_crs: as of `review`.
        edits: as of `review`.
        who: as of `review`.
        layer: as of `review`.
        host: as of `review`.
        port: as of `review`.
        others_may_connect: as of `review`.
        idle_minutes: as of `review`.
        with_parent: end when the program that started this one is gone.
        device: as of `review`.
        ready: told the `Address` when the server can be asked (Python only).
        progress: as of `review`.

    Raises:
        HybridsegError: bad input; one line that says what came, what is allowed and what to do.
    """
    _check(host, others_may_connect, idle_minutes)
    from hybridseg.reviewing.desk import Desk

    with Desk.open(
        scene, result, theme=theme, refiner=refiner, bands=bands, source_crs=source_crs, edits=edits, who=who,
        device=device, layer=layer, progress=progress,
    ) as desk:  # fmt: skip
        serving = _serving(desk, False, host, port, others_may_connect, ready)
        serving.run(idle_minutes * 60, os.getppid if with_parent else None)


def _check(host: str, remote: bool, idle_minutes: float) -> None:
    if host not in ("127.0.0.1", "localhost", "::1") and not remote:
        raise HybridsegError(
            f"host {host} can be reached from other machines: add --others-may-connect if whoever has the token "
            "may look and change, and nothing need be encrypted on the way"
        )
    if not idle_minutes > 0:
        raise HybridsegError(f"idle_minutes is {idle_minutes:g}; give more than 0")


def _serving(desk: Any, page: bool, host: str, port: int, remote: bool, ready: Callable[[Any], None] | None) -> Any:
    """The server of a desk, announced, once it is certain that its libraries are there."""
    try:
        from hybridseg.reviewing.server.serving import Serving
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "starlette"):
            raise
        raise MissingExtra(f"{error.name} is not installed; install hybridseg with the extra `review`") from error
    serving = Serving(desk, page, host, port, remote)
    if ready is not None:
        ready(serving.address)
    return serving
