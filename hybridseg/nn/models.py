"""The networks of the two sweeps, opened once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridseg.nn.classify.classifier import load_classifier
from hybridseg.nn.runtime import Runner
from hybridseg.nn.sam2.embedding import EmbeddingFolder
from hybridseg.nn.sam2.looks import Looks
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.nn.sam2.shared_encoder import CachedRefiner
from hybridseg.nn.sam2.shared_encoder import share_encoder as share


@dataclass(frozen=True, eq=False)
class Models:
    """A classifier and a refiner. Both pickle by name, so a value that holds them may go to another process.

    classifier: of the first sweep, or what stands in for it (`what.classify.Network`).
    refiner: of the second; None: the coarse outlines are the result.
    shared: whether both have their features from one encoder; the second sweep then asks for the windows of the first.
    """

    classifier: Any
    refiner: Promptable | CachedRefiner | None = None
    shared: bool = False

    @classmethod
    def open(
        cls,
        classifier: Any,
        refiner: str | Path = "none",
        device: str = "auto",
        share_encoder: bool = False,
        cache: Path | None = None,
        runtime: str = "auto",
        label: str = "",
    ) -> Models:
        """Open both; a network that is already open in this process is not opened again.

        Args:
            classifier: name or folder, see `load_classifier`; or one that is open already.
            refiner: name, folder or file, see `load_refiner`; `none` for no refiner.
            device: auto, cpu, cuda, cuda:1 or mps.
            share_encoder: encode each window once for both, where the classifier was trained on the encoder of this
                refiner; elsewhere each has its own.
            cache: folder of embeddings, which later runs share; None: none are kept.
            runtime: auto, torch or openvino; see `pick_runtime`.
            label: of the class looked for, see `load_classifier`.

        Raises:
            WeightsError: one cannot be had.
            HybridsegError: there is no such device or runtime.
        """
        named = isinstance(classifier, str | Path)
        first = load_classifier(classifier, device, runtime, label) if named else classifier
        if refiner == "none":
            return cls(first)
        second = load_refiner(refiner, device, runtime=runtime)
        folder = None if cache is None else EmbeddingFolder(cache)
        if share_encoder and named and (both := share(first, second, folder)) is not None:
            return cls(*both, shared=True)
        return cls(first, second if folder is None else CachedRefiner(second, folder))

    @property
    def refiner_name(self) -> str:
        """Name of the refiner, or `none`."""
        return "none" if self.refiner is None else self.refiner.name

    @property
    def runners(self) -> tuple[Runner, ...]:
        """What computes the networks, part by part."""
        return (*self.classifier.runners, *(() if self.refiner is None else self.refiner.runners))

    def looking(self, looks: int) -> Promptable | CachedRefiner | Looks | None:
        """The refiner with so many looks at each window; one where both sweeps share an encoder."""
        return None if self.refiner is None else Looks.of(self.refiner, 1 if self.shared else looks)

    def end_first_sweep(self) -> None:
        """Give back what the classifier took for its windows, which are much larger than the refiner's."""
        for runner in self.classifier.runners:
            runner.release()

    @property
    def hashes(self) -> dict[str, str]:
        """sha256 of the weights of each, by name."""
        used = [self.classifier] if self.refiner is None else [self.refiner, self.classifier]
        return {network.name: network.sha256 for network in used}
