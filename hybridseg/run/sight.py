"""What the two sweeps look through: a network and a refiner, each for itself or with one encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from odc.geo.geobox import GeoBox

from hybridseg.read.grid import work_grid
from hybridseg.read.source import Source
from hybridseg.theme import Theme
from hybridseg.what.classify import Network
from hybridseg.where.refine import Promptable


@dataclass(frozen=True)
class Sight:
    """network: of the first sweep; refiner: of the second; grid: see `Pipeline`, where they have one encoder."""

    network: Network
    refiner: Promptable | None
    grid: GeoBox | None = None


def look_through(theme: Theme, source: Source, network: Network, refiner: Promptable | None, folder: Path) -> Sight:
    """How a theme looks at a source: as its `prompts.windows` says.

    Shared windows need one encoder; with another refiner than the network was trained on, each has its own.

    Args:
        theme: gives the setting, and the GSD.
        source: what is looked at.
        network: a classifier.
        refiner: or None.
        folder: where embeddings wait between the sweeps.
    """
    if theme.prompts.windows != "shared" or refiner is None:
        return Sight(network, refiner)
    from hybridseg.nn.sam2.embedding import EmbeddingFolder  # torch comes with it: not for `hybridseg --help`
    from hybridseg.nn.sam2.shared_encoder import share_encoder

    both = share_encoder(network, refiner, EmbeddingFolder(folder))  # type: ignore[arg-type]
    if both is None:
        return Sight(network, refiner)
    spec = network.spec
    return Sight(*both, work_grid(source, theme.gsd_m(source.gsd_m, spec.gsd_m), spec.snap_px))
