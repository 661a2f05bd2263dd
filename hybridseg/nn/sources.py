"""What is fetched when it is named, and under which licence: told before anything is fetched.

A licence stands here only where its page was read; elsewhere it says so.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass

from hybridseg.errors import HybridsegWarning

UNVERIFIED = "not verified"


@dataclass(frozen=True)
class Source:
    """Weights that come from elsewhere.

    name: as it is given, or a family's.
    pattern: of all names that it stands for.
    kind: refiner or backbone.
    licence: of the weights.
    page: where that stands.
    megabytes: size, about; None: not known.
    """

    name: str
    pattern: str
    kind: str
    licence: str
    page: str
    megabytes: int | None = None

    def line(self, name: str) -> str:
        """Return what to say before it is fetched."""
        size = "" if self.megabytes is None else f"about {self.megabytes} MB, "
        return f"{name}: {size}licence {self.licence} ({self.page})"


_HUB = "huggingface.co"
_SAM2 = [("tiny", 156), ("small", 184), ("base-plus", 323), ("large", 898)]
SOURCES = (
    *(
        Source(f"sam{v}-hiera-{size}", rf"(facebook/)?sam{v}-hiera-{size}", "refiner", "Apache-2.0",
               f"{_HUB}/facebook/sam{v}-hiera-{size}", megabytes)
        for v in ("2.1", "2") for size, megabytes in _SAM2
    ),
    Source("edgetam", "edgetam", "refiner", "Apache-2.0", "github.com/facebookresearch/EdgeTAM", 56),
    Source("sam2:REFINER", r"sam2:.+", "backbone", "as the refiner's", "its row above"),
    Source("timm:...dinov3...", r"timm:.*dinov3.*", "backbone", "DINOv3 License, Meta's own terms: read it first",
           f"{_HUB}/timm"),
    Source("timm:NAME", r"timm:.+", "backbone", UNVERIFIED, f"its page at {_HUB}/timm"),
    Source("torchgeo:...LANDSAT... (SSL4EO-L)", r"torchgeo:.+\.LANDSAT_.+", "backbone", "CC0-1.0",
           f"{_HUB}/torchgeo/ssl4eo_landsat"),
    Source("torchgeo:WEIGHTS", r"torchgeo:.+", "backbone", UNVERIFIED, "torchgeo.readthedocs.io, pretrained weights"),
    Source("terratorch:clay_v15", "terratorch:clay_v15", "backbone", "Apache-2.0 (OpenRAIL in older revisions)",
           f"{_HUB}/made-with-clay/Clay"),
    Source("terratorch:prithvi_eo_v2_...", r"terratorch:prithvi_eo_v2.+", "backbone", "Apache-2.0",
           f"{_HUB}/ibm-nasa-geospatial"),
    Source("terratorch:NAME", r"terratorch:.+", "backbone", UNVERIFIED, "its page on the hub"),
    Source("hf:OWNER/NAME", r"hf:.+", "model", UNVERIFIED, "its card on the hub"),
)  # fmt: skip
"""The first whose pattern fits counts."""


def source_of(name: str) -> Source | None:
    """Return where the weights of a name come from; None where nothing is fetched for it."""
    return next((source for source in SOURCES if re.fullmatch(source.pattern, name)), None)


def announce(name: str) -> None:
    """Say in one line what is about to be fetched, how large it is, and under which licence."""
    source = source_of(name)
    if source is not None:
        warnings.warn(f"fetching, unless it is in your cache, {source.line(name)}", HybridsegWarning, stacklevel=2)
