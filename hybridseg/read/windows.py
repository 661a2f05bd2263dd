"""Cores that partition a grid; `Window.pad` gives each its halo."""

from __future__ import annotations

from hybridseg.types import Window


def tile(shape: tuple[int, int], core_px: int, offset_px: int = 0) -> list[Window]:
    """Cores, row by row, that cover a grid exactly once.

    Args:
        shape: (H, W) of the grid.
        core_px: side of a core; those at the borders may be smaller.
        offset_px: shifts the lattice of cores, so that the first row and column hold `offset_px` mod `core_px` pixels.
            Results must not depend on it; it is there to show that.

    Raises:
        ValueError: when `core_px` is not positive.

    Example:
        >>> [w.col for w in tile((4, 10), core_px=4, offset_px=1)]
        [0, 1, 5, 9]
    """
    if core_px < 1:
        raise ValueError(f"core_px must be at least 1, got {core_px}")
    rows, cols = (_spans(length, core_px, offset_px % core_px) for length in shape)
    return [Window(c0, r0, c1 - c0, r1 - r0) for r0, r1 in rows for c0, c1 in cols]


def core_px(image_px: int) -> int:
    """Side of the core of a network's image, where it takes images of one size only: five eighths of the side.

    The rest shows what lies around. In whole strides of 32 px.
    """
    return image_px * 5 // 8 // 32 * 32


def _spans(length: int, step: int, first: int) -> list[tuple[int, int]]:
    """(start, stop) of the pieces of 0..length, the first one `first` long where that is not 0."""
    starts = sorted({0, *range(first, length, step)}) if length else []
    return list(zip(starts, [*starts[1:], length], strict=False))
