"""Objects that touch taken as one, for references that cannot part them: patches of a mask."""

from __future__ import annotations

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def groups_touching(polygons: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
    """Return (n,) int, the number of the group that each polygon belongs to, 0..m-1 by their first members.

    Two polygons of one class that share a point are in one group, and so are all that hang together by such pairs.

    Args:
        polygons: (n,) geometries.
        classes: (n,) the class of each; None: all are of one.
    """
    one, two = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    alike = np.ones(len(one), bool) if classes is None else classes[one] == classes[two]
    links = coo_array((np.ones(int(alike.sum())), (one[alike], two[alike])), shape=(len(polygons),) * 2)
    return np.asarray(connected_components(links, directed=False)[1])


def united(polygons: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return (m,) unions of polygons (n,), by the number of their group."""
    order = np.argsort(groups, kind="stable")
    members = np.split(polygons[order], np.flatnonzero(np.diff(groups[order])) + 1) if len(polygons) else []
    return np.array([some[0] if len(some) == 1 else shapely.union_all(some) for some in members], object)
