"""Devices, and the one rule for the arithmetic on them.

fp32 means fp32: on CUDA, TF32 is off while a network of ours runs, since it rounds to 10 bits and takes other
algorithms for other window sizes, so that the heatmap would depend on the tiling. Only a refiner's encoder may run in
bf16, where the hardware multiplies it natively: its windows do not depend on the tiling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

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
        reason = re.split(r"\n|\. ", str(error))[0]  # its first sentence; torch adds all that it supports
        raise HybridsegError(f"cannot use device {name!r}: {reason}; give auto or cpu") from error


def seed_everything(seed: int) -> None:
    """Seed torch's random numbers, as those of fresh weights, on all devices."""
    torch.manual_seed(seed)


@contextmanager
def shared_cores(workers: int) -> Iterator[None]:
    """Divide the cores among so many threads that compute at the same time, while the block runs.

    Else each operation of each thread would take all cores, and they would wait for each other.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in fp32, without TF32 on CUDA, while the block runs."""
    if device.type != "cuda":
        yield
        return
    with _TF32_OFF:
        yield


@contextmanager
def encoder_precision(device: torch.device, bf16: bool) -> Iterator[None]:
    """Compute in bf16 or in fp32.

    bf16 encodes twice as fast with Hiera-tiny, with a relative error of 1 %.
    """
    with full_precision(device), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        yield


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware: Ampere and later, or a CPU with AVX-512 BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


class _TurnTf32Off:
    """Switches TF32 off at the first entry and back at the last exit: blocks of several threads share the switch."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = Lock(), 0, (False, True)

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
                torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self._before


_TF32_OFF = _TurnTf32Off()
