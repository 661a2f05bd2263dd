"""Where the networks run."""

from __future__ import annotations

import torch

from hybridseg.errors import HybridsegError


def pick_device(name: str = "auto") -> torch.device:
    """`auto`: CUDA, else Apple's GPU, else the CPU; or any name that torch knows.

    Raises:
        HybridsegError: the name is unknown or the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise HybridsegError(
            f"cannot use device {name!r}: {str(error).splitlines()[0]}; give auto, cpu or cuda"
        ) from error
