"""Tiles of a web map service, by GDAL's own driver, from a server on this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg import HybridsegError, Models, extract, open_scene
from hybridseg.errors import EmptySource, SourceUnavailable
from hybridseg.read.part import at_gsd
from tests.conftest import BLOCKS, blocks_image
from tests.doubles import Bright, Threshold

ZOOM, COLUMN, ROW = 20, 572_000, 345_000
WORLD_M = 20_037_508.342789244
PIXEL = 2 * WORLD_M / 2**ZOOM / 256
"""Units of EPSG:3857 a pixel; on the ground, at 51 degrees north, 0.63 of them."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A description of the service; broken.xml beside it is of one that fails."""
    folder = tmp_path_factory.mktemp("service")
    image = np.repeat(np.repeat(blocks_image(), 3, axis=1), 3, axis=2)
    np.save(folder / "image.npy", image)
    command = [
        sys.executable,
        "-m",
        "tests.read.tile_server",
        str(folder / "image.npy"),
        *map(str, (ZOOM, COLUMN, ROW)),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        for name in ("tiles", "broken"):
            (folder / f"{name}.xml").write_text(
                f"<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:{port}/{name}/${{z}}/${{x}}/${{y}}.png"
                f"</ServerUrl></Service><DataWindow><UpperLeftX>-{WORLD_M}</UpperLeftX><UpperLeftY>{WORLD_M}</UpperLeftY>"
                f"<LowerRightX>{WORLD_M}</LowerRightX><LowerRightY>-{WORLD_M}</LowerRightY><TileLevel>{ZOOM}</TileLevel>"
                "<TileCountX>1</TileCountX><TileCountY>1</TileCountY><YOrigin>top</YOrigin></DataWindow>"
                "<Projection>EPSG:3857</Projection><BlockSizeX>256</BlockSizeX><BlockSizeY>256</BlockSizeY>"
                "<BandsCount>3</BandsCount><ZeroBlockHttpCodes>404</ZeroBlockHttpCodes></GDAL_WMS>"
            )
        (folder / "wms.xml").write_text(
            f"<GDAL_WMS><Service name='WMS'><Version>1.1.1</Version><ServerUrl>http://127.0.0.1:{port}/wms?</ServerUrl>"
            "<SRS>EPSG:3857</SRS><ImageFormat>image/png</ImageFormat><Layers>imagery</Layers></Service><DataWindow>"
            f"<UpperLeftX>-{WORLD_M}</UpperLeftX><UpperLeftY>{WORLD_M}</UpperLeftY><LowerRightX>{WORLD_M}</LowerRightX>"
            f"<LowerRightY>-{WORLD_M}</LowerRightY><SizeX>{256 * 2**ZOOM}</SizeX><SizeY>{256 * 2**ZOOM}</SizeY>"
            "</DataWindow><Projection>EPSG:3857</Projection><BlockSizeX>256</BlockSizeX><BlockSizeY>256</BlockSizeY>"
            "<BandsCount>3</BandsCount></GDAL_WMS>"
        )
        yield folder / "tiles.xml"
        server.kill()


def place() -> tuple[float, float, float, float]:
    """The image's bounds."""
    left, top = (COLUMN * 256 * PIXEL - WORLD_M, WORLD_M - ROW * 256 * PIXEL)
    return left, top - 768 * PIXEL, left + 768 * PIXEL, top


@pytest.mark.parametrize("kind", ["tiles", "wms"])
def test_pixels_of_a_service_are_those_that_it_gives(service: Path, kind: str):
    scene = open_scene(service.with_name(f"{kind}.xml"))
    left, _, _, top = place()
    grid = GeoBox((768, 768), Affine(PIXEL, 0, left, 0, -PIXEL, top), "EPSG:3857")
    chip = scene.read_grid(grid)
    np.testing.assert_array_equal(chip.pixels, np.repeat(np.repeat(blocks_image(), 3, axis=1), 3, axis=2))


def test_a_service_is_mapped_in_pixels_of_a_size(service: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Models, "open", lambda *_: Models(Bright(), Threshold()))
    left, _, _, top = place()
    seen = at_gsd(open_scene(service), 0.25, place())
    assert abs(seen.gsd_m - 0.25) < 0.005
    assert 0.6 < seen.metres_per_unit[0] < 0.66
    result = extract(str(service), extent=place(), gsd=0.25)
    truth = [
        shapely.box(left + 3 * PIXEL * x, top - 3 * PIXEL * (y + h), left + 3 * PIXEL * (x + w), top - 3 * PIXEL * y)
        for y, x, h, w in BLOCKS
    ]
    ious = [
        max(one.intersection(other).area / one.union(other).area for other in result.features.geometry) for one in truth
    ]
    assert len(result.features) == len(BLOCKS)
    assert min(ious) > 0.85


def test_what_cannot_be_mapped_is_one_line(service: Path):
    with pytest.raises(HybridsegError, match=r"has 7.2e\+16 pixels; give --extent or --aoi"):
        extract(str(service))
    with pytest.raises(HybridsegError, match=r"gsd is 0, but .* has pixels of 0\.149 m; give 0\.0149 to 100000 metres"):
        extract(str(service), gsd=0, extent=place())
    with pytest.raises(EmptySource, match="does not touch"):
        extract(str(service), gsd=0.25, extent=(3e7, 0, 3.1e7, 10))
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        open_scene(service.with_name("broken.xml"))
