"""The embedding of one image as a value with a place, and a folder of them with a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from odc.geo.geobox import GeoBox
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from hybridseg.folders import MOST_BYTES, CacheFolder

SUFFIX = ".safetensors"
MAPS = ("coarse", "fine_0", "fine_1")
"""Names of an embedding's maps, in files and dicts."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """What a decoder needs of one image. The mark that there is no memory is not in it: decoding adds it, tracking not.

    coarse: (1, C, S/16, S/16) float32.
    fine: (1, C/8, S/4, S/4) and (1, C/4, S/8, S/8) float32.
    geobox: the grid of the image, (S, S).
    """

    coarse: Tensor
    fine: tuple[Tensor, ...]
    geobox: GeoBox

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The maps in float16, by name: 1 MB for an image of 512 px, 4 MB for one of 1024."""
        return arrays_of(self.coarse, self.fine)

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], geobox: GeoBox, device: torch.device | str = "cpu"
    ) -> Embedding:
        """The embedding that `to_arrays` took apart.

        Raises:
            ValueError: a map is missing.
        """
        if set(arrays) != set(MAPS):
            raise ValueError(f"an embedding has the maps {', '.join(MAPS)}; got {', '.join(arrays) or 'none'}")
        coarse, *fine = (torch.from_numpy(arrays[name]).to(device).float() for name in MAPS)
        return cls(coarse, tuple(fine), geobox)


def arrays_of(coarse: Tensor, fine: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """Maps of an encoder in float16, as `Embedding.to_arrays` names them."""
    return {name: part.half().contiguous().cpu().numpy() for name, part in zip(MAPS, (coarse, *fine), strict=True)}


class EmbeddingFolder:
    """Arrays of embeddings as files, by key; see `CacheFolder`.

    A file that cannot be read, and one that cannot be written, cost a second encoding and nothing else.

    folder: for embeddings alone; made when the first is written.
    most_bytes: of all files together.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self._files = CacheFolder(folder, SUFFIX, most_bytes)

    def load(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays under a key; None where there are none, or the file cannot be read."""
        content = self._files.load(key)
        try:
            arrays = {} if content is None else load(content)
        except SafetensorError:
            return None
        return arrays if set(arrays) == set(MAPS) else None

    def save(self, key: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep the arrays of an embedding; nothing happens where that fails."""
        self._files.save(key, save(arrays))
