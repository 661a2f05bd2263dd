"""Where the networks run."""

from __future__ import annotations

import re

import torch

from hybridseg.errors import HybridsegError


def pick_device(name: str = "auto") -> torch.device:
    """`auto`: CUDA, else Apple's GPU, else the CPU; or one of these by name, with a number where there are several.

    Raises:
        HybridsegError: the name is unknown or the device is not there.
    """
    if not re.fullmatch(r"auto|(cpu|cuda|mps)(:\d+)?", name):
        raise HybridsegError(f"no device {name!r}; give auto, cpu, cuda, cuda:1 or mps")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = re.split(r"\n|\. ", str(error))[0]  # its first sentence; torch goes on with all that it knows
        raise HybridsegError(f"cannot use device {name!r}: {reason}; give auto or cpu") from error
