"""One encoder for both sweeps: each window is encoded once, and remembered between them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hybridseg.nn.classifier import Classifier
from hybridseg.nn.sam2 import Embedding, Promptable, fast, normalise, split_features
from hybridseg.read.tiles import core_px

WORTH = 0.25
"""Windows where no class is likelier than this anywhere are not remembered: nothing is prompted there."""


def once(classifier: object, refiner: object, folder: Path) -> Once | None:
    """Both with one encoder, where the classifier looks through the refiner's own; None where it has another.

    Weights are compared one by one, in fp16, as model folders hold them.
    """
    if not (isinstance(classifier, Classifier) and isinstance(refiner, Promptable)):
        return None
    body = getattr(classifier.net.trunk, "body", None)
    if not isinstance(body, nn.Module):
        return None
    own, its = body.state_dict(), refiner.model.image_encoder.trunk.state_dict()
    same = own.keys() == its.keys() and all(
        own[k].shape == its[k].shape and torch.equal(own[k].half(), its[k].half()) for k in own
    )
    return Once(classifier, refiner, folder) if same else None


@dataclass(frozen=True)
class Once:
    """A classifier and a refiner with one encoder (made by `once`), as both at a time.

    Is what the sweeps need of either (what.classify.Network and where.refine.Promptable). An embedding is filed in
    `folder` under what made it and of which pixels, so whoever asks for the same window again gets it read, not made.
    Kept in fp16, 1 MB for an image of 512 px and 4 for one of 1024; what was not kept is decoded rounded, too, so that
    results do not depend on the file.
    """

    classifier: Classifier
    refiner: Promptable
    folder: Path

    @property
    def stride(self) -> int:
        """Image pixels along a heatmap pixel's side."""
        return self.classifier.stride

    @property
    def image_px(self) -> int:
        """Side of the image that both look at."""
        return self.refiner.size_px

    @property
    def size_px(self) -> int:
        """The same, as a refiner has it."""
        return self.refiner.size_px

    @property
    def mask_px(self) -> int:
        """Side of the refiner's hints and logits."""
        return self.refiner.mask_px

    @property
    def snap_px(self) -> int:
        """Side of the image's core."""
        return core_px(self.image_px)

    @property
    def gsd_m(self) -> float:
        """Ground sampling distance that the classifier works at."""
        return self.classifier.gsd_m

    @property
    def coarsest_gsd_m(self) -> float:
        """Sources coarser than this are beyond it."""
        return self.classifier.coarsest_gsd_m

    @property
    def classes(self) -> list[str]:
        """What the classifier tells apart."""
        return self.classifier.classes

    @property
    def source_bands(self) -> None:
        """Both look at 8-bit red, green and blue."""
        return

    @property
    def scaling(self) -> str:
        """Of the values that it takes, in words."""
        return self.classifier.scaling

    @property
    def name(self) -> str:
        """The refiner's."""
        return self.refiner.name

    @property
    def sha256(self) -> str:
        """Hash of the refiner's weights."""
        return self.refiner.sha256

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """(3, S, S) uint8 to (2 x classes, S/2, S/2) float32 in [0, 1]; see `Classifier.predict`."""
        images = self._images(pixels)
        embedding, levels = self._look(images)
        heat = self.classifier.net.read(images, levels)[0].sigmoid().cpu().numpy()
        if heat[::2].max() >= WORTH:
            with suppress(SafetensorError, OSError):  # a full disk costs a second encoding, not the map
                self._keep(pixels, embedding)
        return heat

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray) -> Embedding:
        """(3, S, S) uint8 to an embedding: the one kept in the first sweep, or a new one."""
        path = self._path(pixels)
        if path.exists():
            stored = {name: part.to(self._device) for name, part in load_file(path).items()}
            return _full(stored["coarse"], stored["fine_0"], stored["fine_1"])
        embedding, _ = self._look(self._images(pixels))
        return _full(*(part.half() for part in (embedding.coarse, *embedding.fine)))

    def decode(
        self, embedding: Embedding, points: np.ndarray, labels: np.ndarray, hints: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Promptable.decode`."""
        return self.refiner.decode(embedding, points, labels, hints)

    def _look(self, images: Tensor) -> tuple[Embedding, list[Tensor]]:
        """One run of the encoder: what the decoder takes, and the trunk's own feature maps, fine to coarse."""
        with _overheard(self.refiner.model.image_encoder.trunk) as levels, fast(self._device):
            coarse, fine = split_features(self.refiner.model, images)
        return Embedding(coarse, tuple(fine)), [level.float() for level in levels]

    def _images(self, pixels: np.ndarray) -> Tensor:
        return normalise(torch.from_numpy(pixels)[None].to(self._device))

    @property
    def _device(self) -> torch.device:
        return next(self.refiner.model.parameters()).device

    def _path(self, pixels: np.ndarray) -> Path:
        made_by = bytes.fromhex(self.refiner.sha256)
        name = hashlib.blake2b(pixels.tobytes(), digest_size=16, key=made_by).hexdigest()
        return self.folder / f"{name}.safetensors"

    def _keep(self, pixels: np.ndarray, embedding: Embedding) -> None:
        first, second = embedding.fine
        parts = {"coarse": embedding.coarse, "fine_0": first, "fine_1": second}
        beside = self._path(pixels).with_suffix(".tmp")
        save_file({name: part.half().contiguous().cpu() for name, part in parts.items()}, beside)
        os.replace(beside, self._path(pixels))


def _full(coarse: Tensor, *fine: Tensor) -> Embedding:
    return Embedding(coarse.float(), tuple(level.float() for level in fine))


@contextmanager
def _overheard(trunk: nn.Module) -> Iterator[list[Tensor]]:
    """What a module gives while the block runs."""
    heard: list[Tensor] = []
    handle = trunk.register_forward_hook(lambda _, __, output: heard.extend(output))
    try:
        yield heard
    finally:
        handle.remove()
