"""What a run did, in numbers: what the command line prints and `--json` gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Failure:
    """A window that could not be done. place: which; reason: one line."""

    place: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """Counts and times of one extraction."""

    scene: str
    out: str | None
    theme: str
    refiner: str
    windows_classified: int
    windows_in_raster: int
    windows_refined: int
    prompts: int
    refined: int
    coarse: int
    overlapping: int
    features: int
    seconds: Mapping[str, float]
    failures: tuple[Failure, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as for JSON."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """(what, how much) for a person to read."""
        rows = [
            ("features", f"{self.features:,} of theme {self.theme}"),
            ("prompts", f"{self.prompts:,}: {self.refined:,} kept refined, {self.coarse:,} kept coarse"),
            ("dropped", f"{self.overlapping:,} that doubled another"),
            ("classified", f"{self.windows_classified:,} windows"),
            (
                "refined",
                f"{self.windows_refined:,} of {self.windows_in_raster:,} windows over the raster ({self.refiner})",
            ),
            ("seconds", ", ".join(f"{name} {value:.1f}" for name, value in self.seconds.items())),
        ]
        if self.failures:
            rows.append(("FAILED", f"{len(self.failures)} windows; their ground is empty or coarse in the result"))
            rows += [("", f"{f.place}: {f.reason}") for f in self.failures]
        if self.out:
            rows.append(("written", self.out))
        return rows
