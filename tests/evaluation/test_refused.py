from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import shapely

from hybridseg.cli import main
from hybridseg.errors import EvaluateError, LayerError, NoGeoreference
from hybridseg.evaluation import evaluate
from tests.evaluation.test_evaluate import X, Y, box, layer


def test_what_is_amiss_but_can_be_done_is_said() -> None:
    bow = shapely.Polygon([(X, Y), (X + 4, Y + 4), (X + 4, Y), (X, Y + 4)])
    found = evaluate(layer(bow, box(50, 0), class_=["a", "b"], score=[50, 90]), layer(box(0, 0), box(50, 0)))
    assert any("1 of 2 rows (0) invalid, repaired" in line for line in found.warnings)
    assert any(
        "the reference has no class column: all rows are compared as one class" in line for line in found.warnings
    )
    assert any("scores run from 50 to 90" in line for line in found.warnings)
    assert any("blocks of ground hold objects" in line for line in found.warnings)
    assert "ap50" in found.figures
    assert "ece" not in found.figures
    renamed = evaluate(layer(box(0, 0), class_=["buildings"]), layer(box(0, 0), class_=["building"]))
    assert renamed["f1"] == 1
    assert any(
        "'buildings' in the prediction and 'building' in the reference: taken for one" in w for w in renamed.warnings
    )
    beyond = evaluate(layer(box(0, 0), box(900, 0)), layer(box(0, 0), box(20, 0)))
    assert any("1 of 2 predicted objects lie outside the extent of the reference" in line for line in beyond.warnings)


def test_what_cannot_be_compared_is_refused() -> None:
    house = layer(box(0, 0))
    with pytest.raises(EvaluateError, match=r"longitude .* \(from EPSG:32633\) and .* do not overlap"):
        evaluate(layer(box(5000, 0)), house)
    with pytest.raises(EvaluateError, match="do not overlap"):
        evaluate(house, house, aoi=layer(box(5000, 0)))
    with pytest.raises(EvaluateError, match="the reference holds no objects"):
        evaluate(house, layer())
    with pytest.raises(EvaluateError, match="has no object on the ground to compare"):
        evaluate(house, house, ignore=layer(box(-5, -5, 30, 30)))
    with pytest.raises(EvaluateError, match="the AOI is empty"):
        evaluate(house, house, aoi=layer())
    with pytest.raises(LayerError, match="the prediction has no CRS"):
        evaluate(layer(box(0, 0), crs=None), house)
    with pytest.raises(NoGeoreference, match="set the true CRS of the layer"):
        evaluate(layer(box(0, 0), crs="EPSG:4326"), house)
    with pytest.raises(NoGeoreference, match="the ignore layer spans"):
        evaluate(house, house, ignore=layer(shapely.box(0, 0, 1e300, 1e300)))
    with pytest.raises(EvaluateError, match="no class in common"):
        evaluate(layer(box(0, 0), box(20, 0), class_=["a", "b"]), layer(box(0, 0), class_=["c"]))
    with pytest.raises(EvaluateError, match="the prediction holds lines, no polygons"):
        evaluate(layer(shapely.LineString([(X, Y), (X + 9, Y)])), house)
    with pytest.raises(EvaluateError, match="no column 'crop'"):
        evaluate(house, house, label_column="crop")
    with pytest.raises(EvaluateError, match="the seed is -1"):
        evaluate(house, house, seed=-1)
    with pytest.raises(EvaluateError, match="the tolerance is 0 m"):
        evaluate(house, house, tolerance_m=0)
    with pytest.raises(EvaluateError, match="the tolerance is nan m"):
        evaluate(house, house, tolerance_m=float("nan"))
    with pytest.raises(EvaluateError, match="raster is 'masks'; choose one of auto, classes, instances"):
        evaluate(house, house, raster="masks")


@pytest.mark.parametrize("role", ["pred", "ref", "aoi", "ignore", "compare"])
def test_a_geopackage_with_a_flipped_bit_is_one_line(tmp_path: Path, role: str) -> None:
    layer(box(0, 0), box(20, 0)).to_file(tmp_path / "whole.gpkg")
    content = bytearray((tmp_path / "whole.gpkg").read_bytes())
    place = content.index(shapely.to_wkb(box(20, 0)))
    content[place + len(shapely.to_wkb(box(20, 0))) - 3] ^= 1  # in the last corner, which closes the ring
    (tmp_path / "damaged.gpkg").write_bytes(content)
    files = {"pred": tmp_path / "whole.gpkg", "ref": tmp_path / "whole.gpkg", role: tmp_path / "damaged.gpkg"}
    with pytest.raises(LayerError, match=r"damaged.gpkg cannot be read as vectors \(.*closed linestring\)") as refused:
        evaluate(**files)
    assert "\n" not in str(refused.value)


def test_the_command_line_asks_for_paths_only(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    assert "CLASS_PATH" not in capsys.readouterr().out


def test_importing_it_does_not_wait_for_torch() -> None:
    program = "import sys, hybridseg.evaluation; sys.exit(bool({'torch', 'timm', 'lightning'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
