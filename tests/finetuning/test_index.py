"""The scale of an index, learnt on labels."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
import yaml
from rasterio.features import shapes

from hybridseg.errors import ThemeError
from hybridseg.finetuning.run import finetune
from hybridseg.nn.classify.classifier import load_classifier
from hybridseg.read.opening import open_scene
from hybridseg.run.extract import extract
from tests.rasters import utm_affine, write

NAMED = "red=1,green=2,blue=3,nir=4"
SIDE = 256


@pytest.fixture
def given(tmp_path: Path) -> dict[str, object]:
    """Ponds of NDWI 0.55 on ground of 0.25, all of it above the usual centre, with their outlines."""
    rng = np.random.default_rng(0)
    ponds = np.zeros((SIDE, SIDE), bool)
    for row in range(20, SIDE - 20, 40):
        for col in range(20, SIDE - 20, 40):
            ponds[row : row + rng.integers(8, 20), col : col + rng.integers(8, 20)] = True
    bands = np.full((4, SIDE, SIDE), 1000.0)
    bands[3] = np.where(ponds, 290, 600) + rng.normal(0, 40, ponds.shape)
    path = write(tmp_path / "ponds.tif", bands.astype(np.uint16), utm_affine(5.0), photometric="minisblack")
    geobox = open_scene(path, bands={"red": 1, "green": 2, "blue": 3, "nir": 4}).geobox
    outlines = [shapely.geometry.shape(s) for s, v in shapes(ponds.astype("u1"), transform=geobox.affine) if v]
    labels = tmp_path / "ponds.gpkg"
    gpd.GeoDataFrame(geometry=outlines, crs=str(geobox.crs)).to_file(labels)
    return {"scene": path, "labels": labels, "theme": "water", "backbone": "index:ndwi", "bands": NAMED}


def test_finetune_learns_where_water_begins(given: dict[str, object], tmp_path: Path):
    out = finetune(**given, out=tmp_path / "mine", refiner="none").folder  # type: ignore[arg-type]
    card = yaml.safe_load((out / "card.yaml").read_text())
    assert (card["backbone"], card["head"], card["bands"]) == ("index:ndwi", "linear", "green, nir")
    head = load_classifier(out, "cpu").net.head
    weight, bias = (v.detach().flatten()[0].item() for v in (head.weight, head.bias))
    assert weight > 0
    assert 0.3 < -bias / weight < 0.5
    found = extract(given["scene"], model=out, bands=NAMED)
    assert found.summary.theme == "water"
    truth = gpd.read_file(given["labels"])
    shared = found.features.union_all().intersection(truth.union_all()).area
    assert shared / found.features.union_all().union(truth.union_all()).area > 0.8
    assert not any("--by-bands" in note for note in found.summary.notes)


def test_what_an_index_cannot_do_is_refused(given: dict[str, object], tmp_path: Path):
    with pytest.raises(ThemeError, match="--head linear"):
        finetune(**given, out=tmp_path / "mine", head="conv")  # type: ignore[arg-type]
    with pytest.raises(ThemeError, match="leave it out"):
        finetune(**given, out=tmp_path / "mine", gsd=2.0)  # type: ignore[arg-type]
