"""What a refiner keeps of itself behind a cache or several looks: its name, its sizes and what computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hybridseg.nn.runtime import Runner


@dataclass(frozen=True, eq=False)
class WrappedRefiner:
    """A refiner behind something that encodes or decodes by it.

    refiner: a `Promptable`, or another wrapped one.
    """

    refiner: Any

    @property
    def name(self) -> str:
        """The refiner's name."""
        return str(self.refiner.name)

    @property
    def sha256(self) -> str:
        """Hash of the refiner's weights."""
        return str(self.refiner.sha256)

    @property
    def size_px(self) -> int:
        """Side of the image that it takes."""
        return int(self.refiner.size_px)

    @property
    def mask_px(self) -> int:
        """Side of hints and logits."""
        return int(self.refiner.mask_px)

    @property
    def large(self) -> bool:
        """As `Promptable.large`."""
        return bool(self.refiner.large)

    @property
    def runners(self) -> tuple[Runner, ...]:
        """What computes the refiner."""
        return tuple(self.refiner.runners)

    def take_notes(self) -> list[str]:
        """As `Promptable.take_notes`."""
        return list(self.refiner.take_notes())
