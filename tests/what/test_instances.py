from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi

from hybridseg.what.instances import Instances, find_objects, touching

POLICY = Instances(smooth_m=0.5, rise=0.1, peak=0.3)


def depth_of(labels: np.ndarray) -> np.ndarray:
    out = np.zeros(labels.shape, np.float32)
    for k in np.unique(labels[labels > 0]):
        deep = ndi.distance_transform_edt(np.pad(labels == k, 1))[1:-1, 1:-1]
        out = np.maximum(out, (deep / deep.max()).astype(np.float32))
    return out


def two_touching() -> np.ndarray:
    labels = np.zeros((40, 60), np.int32)
    labels[10:30, 10:30] = 1
    labels[10:30, 30:50] = 2
    return labels


def test_touching_objects_come_apart_where_the_interior_dips():
    truth = two_touching()
    found = find_objects((truth > 0).astype(np.float32), depth_of(truth), POLICY, pixel_m=0.5)
    assert len(found.peaks) == 2
    assert [truth[r, c] for r, c in found.peaks] == [1, 2]
    for k in (1, 2):
        mine = found.labels == k
        assert (mine & (truth == k)).sum() / (mine | (truth == k)).sum() > 0.9
    assert touching(found.labels) == {(1, 2), (2, 1)}


def test_a_shallow_dip_does_not_split():
    extent = np.zeros((40, 60), np.float32)
    extent[10:30, 10:50] = 1
    interior = extent * 0.9
    interior[:, 30] -= 0.04
    assert len(find_objects(extent, interior, POLICY, 0.5).peaks) == 1


def test_join_makes_one_of_two_peaks_where_the_saddle_is_high():
    extent = np.zeros((40, 60), np.float32)
    extent[10:30, 10:50] = 1
    interior = extent * 0.9
    interior[:, 28:32] = 0.4 * extent[:, 28:32]  # a ridge in shade
    policy = POLICY.model_copy(update={"smooth_m": 0.0})
    for join, count in ((1.0, 2), (0.5, 2), (0.3, 1)):
        found = find_objects(extent, interior, policy.model_copy(update={"join": join}), 0.5)
        assert len(found.peaks) == count
        assert (found.labels > 0).sum() == extent.sum()


def test_score_is_the_mean_extent_inside():
    extent = np.zeros((30, 30), np.float32)
    extent[5:25, 5:25] = 0.8
    found = find_objects(extent, extent, POLICY, 0.5)
    assert found.score.tolist() == [np.float32(0.8)] or abs(found.score[0] - 0.8) < 1e-6
    assert found.area_px.tolist() == [400]


def test_nothing_on_empty_ground():
    zero = np.zeros((20, 20), np.float32)
    found = find_objects(zero, zero, POLICY, 0.5)
    assert len(found.peaks) == 0
    assert not found.labels.any()
    assert touching(found.labels) == set()
