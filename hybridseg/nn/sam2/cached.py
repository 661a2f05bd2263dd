"""A refiner whose embeddings are kept in a folder, for later runs over the same imagery."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hybridseg.nn.runtime import Runner, pick_runtime
from hybridseg.nn.sam2.embedding import Embedding, EmbeddingFolder
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.types import Chip


def embedding_key(refiner: Promptable, pixels: np.ndarray) -> str:
    """Return what an embedding is filed under: a hash of the weights, of the arithmetic and of the pixels."""
    weights = bytes.fromhex(refiner.sha256)
    runtime = pick_runtime(refiner.runtime, refiner.device)
    arithmetic = f"bf16 {runtime}" if refiner.bf16 else "fp32"  # in which both give the same
    return hashlib.blake2b(pixels.tobytes(), digest_size=16, key=weights, person=arithmetic.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class CachedRefiner:
    """A refiner that encodes only what its folder does not hold. Embeddings are rounded to fp16, found or made.

    refiner: encodes and decodes.
    cache: of embeddings.
    """

    refiner: Promptable
    cache: EmbeddingFolder

    @property
    def name(self) -> str:
        """The refiner's name."""
        return self.refiner.name

    @property
    def sha256(self) -> str:
        """Hash of the refiner's weights."""
        return self.refiner.sha256

    @property
    def size_px(self) -> int:
        """Side of the image that the model takes."""
        return self.refiner.size_px

    @property
    def mask_px(self) -> int:
        """Side of hints and logits."""
        return self.refiner.mask_px

    @property
    def runners(self) -> tuple[Runner, ...]:
        """What computes the refiner."""
        return self.refiner.runners

    def take_notes(self) -> list[str]:
        """As `Promptable.take_notes`."""
        return self.refiner.take_notes()

    def encode(self, chip: Chip) -> Embedding:
        """The embedding of a chip: the one kept, or a new one, which is kept."""
        key = embedding_key(self.refiner, chip.pixels)
        if (arrays := self.cache.load(key)) is None:
            arrays = self.refiner.encode(chip).to_arrays()
            self.cache.save(key, arrays)
        return Embedding.from_arrays(arrays, chip.geobox, self.refiner.device)

    @property
    def decode(self) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
        """`Promptable.decode` of the refiner."""
        return self.refiner.decode
