from __future__ import annotations

from collections.abc import Iterator
from threading import Barrier, Thread

import pytest
import torch

from hybridseg.errors import HybridsegError
from hybridseg.nn.device import encoder_precision, full_precision, native_bf16, pick_device

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def tf32() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = tf32()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("name", ["foo", "", "meta", "cuda:x", "cpu\n"])
def test_an_unknown_device_gives_one_short_line(name: str):
    with pytest.raises(HybridsegError, match="give auto, cpu, cuda, cuda:1 or mps") as error:
        pick_device(name)
    assert len(str(error.value)) < 80


def test_a_device_that_is_not_there_gives_one_short_line():
    with pytest.raises(HybridsegError, match="cannot use device 'cuda:99'") as error:
        pick_device("cuda:99")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_fp32_means_fp32_on_cuda():
    with full_precision(CUDA):
        assert tf32() == (False, False)
    assert tf32() == (True, True)
    with full_precision(CPU):
        assert tf32() == (True, True)  # no business of ours


def test_an_error_inside_leaves_the_switch_as_it_was():
    with pytest.raises(ValueError, match="inside"), full_precision(CUDA):
        raise ValueError("inside")
    assert tf32() == (True, True)


def test_overlapping_blocks_of_threads_keep_it_off_until_the_last_ends():
    entered, left, seen = Barrier(2), Barrier(2), []

    def first() -> None:
        with full_precision(CUDA):
            entered.wait()
        left.wait()

    def second() -> None:
        with full_precision(CUDA):
            entered.wait()
            left.wait()  # the first is out
            seen.append(tf32())

    threads = [Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(False, False)]
    assert tf32() == (True, True)


def test_bf16_only_where_the_hardware_multiplies_it(monkeypatch: pytest.MonkeyPatch):
    for supported in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda value=supported: value)
        assert native_bf16(CPU) == supported
        with encoder_precision(CPU, native_bf16(CPU)):
            product = torch.ones(4, 4) @ torch.ones(4, 4)
        assert product.dtype == (torch.bfloat16 if supported else torch.float32)
    asked = []

    def is_bf16_supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return including_emulation  # as a T4 answers: by emulation only

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    assert not native_bf16(CUDA)
    assert asked == [False]
    assert not native_bf16(torch.device("mps"))
