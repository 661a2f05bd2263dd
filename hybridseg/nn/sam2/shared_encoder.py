"""One encoder for both sweeps: a window is encoded once, and its embedding is kept between them.

The classifier must have been trained on the features of the refiner's own encoder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import get_ident
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hybridseg.nn.backbones.base import normalise
from hybridseg.nn.classify.classifier import Classifier
from hybridseg.nn.classify.heads import FeatureMaps
from hybridseg.nn.device import encoder_precision, full_precision
from hybridseg.nn.runtime import Runner, pick_runtime
from hybridseg.nn.sam2.embedding import Embedding, EmbeddingFolder, arrays_of
from hybridseg.nn.sam2.networks import Encoder
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.nn.sam2.wrapped import WrappedRefiner
from hybridseg.types import Chip, NetworkSpec


def embedding_key(refiner: Promptable, pixels: np.ndarray) -> str:
    """Return what an embedding is filed under: a hash of the weights, of the arithmetic and of the pixels."""
    weights = bytes.fromhex(refiner.sha256)
    runtime = pick_runtime(refiner.runtime, refiner.device)
    arithmetic = f"bf16 {runtime}" if refiner.bf16 else "fp32"  # in which both give the same
    return hashlib.blake2b(pixels.tobytes(), digest_size=16, key=weights, person=arithmetic.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class CachedRefiner(WrappedRefiner):
    """A refiner that encodes only what its folder does not hold.

    An embedding is rounded to fp16, found or made, kept or not, so that results do not depend on what was kept.

    refiner: decodes.
    cache: of embeddings; None: none are kept.
    """

    refiner: Promptable
    cache: EmbeddingFolder | None

    @property
    def decode(self) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
        """`Promptable.decode` of the refiner."""
        return self.refiner.decode

    @property
    def readings(self) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
        """`Promptable.readings` of the refiner."""
        return self.refiner.readings

    def encode(self, chip: Chip) -> Embedding:
        """The embedding of a chip: the one kept, or a new one, which is kept."""
        key = "" if self.cache is None else embedding_key(self.refiner, chip.pixels)
        arrays = None if self.cache is None else self.cache.load(key)
        if arrays is None:
            arrays = self._made(chip)
            if self.cache is not None:
                self.cache.save(key, arrays)
        return Embedding.from_arrays(arrays, chip.geobox, self.refiner.device)

    def _made(self, chip: Chip) -> dict[str, np.ndarray]:
        """The arrays of a new embedding."""
        return self.refiner.encode(chip).to_arrays()


LIKELY = 0.25
"""Embeddings of windows where no class reaches this anywhere are not kept: nothing is prompted there."""


def share_encoder(
    classifier: Classifier, refiner: Promptable, cache: EmbeddingFolder | None = None
) -> tuple[SharedClassifier, SharedRefiner] | None:
    """Return the pair that shares one encoder, or None if the classifier was trained on a different encoder.

    Weights are compared one by one, in fp16, as model folders hold them.

    Args:
        classifier: of the first sweep.
        refiner: of the second.
        cache: where embeddings are kept between the sweeps; None: each sweep encodes.
    """
    body = getattr(classifier.net.trunk, "body", None)
    if not isinstance(body, nn.Module):
        return None
    own, other = body.state_dict(), refiner.model.image_encoder.trunk.state_dict()
    same = own.keys() == other.keys() and all(
        own[k].shape == other[k].shape and torch.equal(own[k].half(), other[k].to(own[k].device).half()) for k in own
    )
    encoder = SharedEncoder(refiner, cache)
    return (SharedClassifier(classifier, encoder), SharedRefiner(refiner, cache, encoder)) if same else None


class _WithLevels(Encoder):
    """An encoder that gives its trunk's maps, fine to coarse, after those of the embedding."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode once for both sweeps."""
        with _captured(self.model.image_encoder.trunk) as levels:
            maps = super().forward(pixels)
        return *maps, *levels


@dataclass(frozen=True, eq=False)
class SharedEncoder:
    """A refiner's encoder whose embeddings are kept, see `embedding_key`.

    refiner: encodes.
    cache: of embeddings, if any.
    """

    refiner: Promptable
    cache: EmbeddingFolder | None = None

    def features(self, pixels: np.ndarray) -> tuple[Tensor, list[Tensor], dict[str, np.ndarray]]:
        """Run the encoder: the normalised image, the trunk's maps (fine to coarse), and the embedding's arrays."""
        device = self.refiner.device
        images = torch.from_numpy(pixels)[None].to(device)
        with encoder_precision(device, self.refiner.bf16):
            coarse, quarter, eighth, *levels = self.runner(images)
        return normalise(images), [level.float() for level in levels], arrays_of(coarse, (quarter, eighth))

    @cached_property
    def runner(self) -> Runner:
        """What computes it."""

        def examples() -> list[tuple[Tensor, ...]]:
            side, random = self.refiner.size_px, torch.Generator().manual_seed(0)
            return [(torch.randint(0, 256, (1, 3, side, side), generator=random, dtype=torch.uint8),)]

        runtime = pick_runtime(self.refiner.runtime, self.refiner.device)
        return Runner("shared encoder", _WithLevels(self.refiner.model).eval(), runtime, examples, self.refiner.bf16)

    def keep(self, pixels: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
        """File the embedding of some pixels, where there is a cache."""
        if self.cache is not None:
            self.cache.save(embedding_key(self.refiner, pixels), arrays)


@dataclass(frozen=True, eq=False)
class SharedClassifier:
    """A classifier that has its features from a shared encoder, and keeps what the refiner will need.

    classifier: its head is used.
    encoder: gives the features.
    """

    classifier: Classifier
    encoder: SharedEncoder

    @property
    def name(self) -> str:
        """The classifier's name."""
        return self.classifier.name

    @property
    def sha256(self) -> str:
        """Hash of the classifier's weights."""
        return self.classifier.sha256

    @property
    def spec(self) -> NetworkSpec:
        """What it takes and gives."""
        return self.classifier.spec

    @property
    def card(self) -> Mapping[str, Any]:
        """The classifier's card."""
        return self.classifier.card

    @property
    def runners(self) -> tuple[Runner, ...]:
        """What computes it; its head, a hundredth of the work, is run by torch."""
        return (self.encoder.runner,)

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """(3, S, S) uint8 to (2 x classes, S/2, S/2) float32 in [0, 1]; see `Classifier.predict`."""
        images, levels, arrays = self.encoder.features(pixels)
        with full_precision(images.device):
            heat = self.classifier.net.from_features(images, levels)[0].sigmoid().cpu().numpy()
        if heat[::2].max() >= LIKELY:
            self.encoder.keep(pixels, arrays)
        return heat

    def features(self, pixels: np.ndarray) -> FeatureMaps:
        """As `Classifier.features`."""
        return self.classifier.features(pixels)


@dataclass(frozen=True, eq=False)
class SharedRefiner(CachedRefiner):
    """A refiner that has its embeddings from a shared encoder: those that the first sweep kept, or new ones.

    encoder: gives the embeddings.
    """

    encoder: SharedEncoder

    @torch.inference_mode()
    def _made(self, chip: Chip) -> dict[str, np.ndarray]:
        return self.encoder.features(chip.pixels)[2]


@contextmanager
def _captured(trunk: nn.Module) -> Iterator[list[Tensor]]:
    """Capture the outputs of a module, via a forward hook, while the block runs: those of this thread's own calls."""
    outputs: list[Tensor] = []
    thread = get_ident()

    def keep(_: nn.Module, __: object, output: list[Tensor]) -> None:
        if get_ident() == thread:
            outputs.extend(output)

    handle = trunk.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()
