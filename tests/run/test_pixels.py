from __future__ import annotations

import numpy as np
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from hybridseg.run.pipeline import _to_pixels
from hybridseg.what.prompts import as_prompts

origins = st.floats(-2e7, 2e7)
pixels = st.floats(0.01, 100)
angles = st.floats(-180, 180)
corners = st.tuples(*[st.floats(0, 5000)] * 4)


@given(origins, origins, pixels, angles, st.booleans(), corners)
def test_pixel_to_world_to_pixel_is_the_same(x, y, size, angle, south_up, corner):
    affine = Affine.translation(x, y) @ Affine.rotation(angle) @ Affine.scale(size, size if south_up else -size)
    geobox = GeoBox((5000, 5000), affine, "EPSG:3857")
    left, top, width, height = corner
    support = shapely.box(left, top, left + width + 1, top + height + 1)
    peak = shapely.MultiPoint([support.centroid])

    def world(geometry: shapely.Geometry) -> shapely.Geometry:
        return shapely.transform(geometry, lambda xy: np.array([affine @ tuple(p) for p in xy]))

    record = ("a", "building", 1.0, 0.0, 0.0, world(peak), shapely.MultiPoint(), world(support))
    (back,) = _to_pixels(as_prompts([record], "EPSG:3857"), geobox)
    # 2e7 map units with pixels of a centimetre leave six digits of a double for the pixel
    assert shapely.equals_exact(back.support, support, tolerance=1e-4)
    assert np.allclose(back.positive, shapely.get_coordinates(peak), atol=1e-4)
    assert back.negative.shape == (0, 2)
