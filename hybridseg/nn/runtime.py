"""What computes a network: torch, or OpenVINO where the device is a CPU and the network converts.

OpenVINO computes in fp32, in kernels chosen for the CPU at hand, or in bf16 where it is asked to. A network is
converted once, compared with torch on examples, and kept compiled in the cache of the user. One that does not convert,
or gives other numbers, is run by torch, and the run says so.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import platformdirs
import torch
from torch import Tensor, nn

from hybridseg.errors import HybridsegError, MissingExtra
from hybridseg.folders import CacheFolder
from hybridseg.nn.compiled import Compiled, Large

RUNTIMES = ("auto", "torch", "openvino")
BOUND = 1e-3
"""Most that a converted network may differ from torch, as a share of the greatest value of each output."""
BF16_BOUND = 0.03
"""Most that one in bf16 may differ from torch in fp32 on average, as a share of the mean value of each output."""
CACHE_VARIABLE = "HYBRIDSEG_CACHE"
"""Names a folder for converted networks, instead of the user's cache."""

Examples = Callable[[], Sequence[tuple[Tensor, ...]]]
"""Makes inputs to convert and compare with; sides in which they differ may be of any length afterwards."""

_DIGEST_BYTES = 16


def pick_runtime(name: str, device: torch.device) -> str:
    """Return `torch` or `openvino`.

    Args:
        name: `auto` takes OpenVINO where it is installed and the device is a CPU.
        device: that the networks are to run on.

    Raises:
        HybridsegError: the name is unknown, or OpenVINO is asked for on another device than a CPU.
        MissingExtra: OpenVINO is asked for and not installed.
    """
    if name not in RUNTIMES:
        raise HybridsegError(f"no runtime {name!r}; give auto, torch or openvino")
    there = importlib.util.find_spec("openvino") is not None
    if name == "auto":
        return "openvino" if there and device.type == "cpu" else "torch"
    if name == "openvino" and device.type != "cpu":
        raise HybridsegError(f"openvino runs on the CPU, not on {device}; give --device cpu or --runtime auto")
    if name == "openvino" and not there:
        raise MissingExtra("openvino is not installed; pip install openvino, or give --runtime torch")
    return name


class Runner:
    """A network as a function from tensors to tensors, computed by OpenVINO or by torch.

    What it is computed by is settled at the first call.
    """

    def __init__(
        self, name: str, net: nn.Module, runtime: str, examples: Examples, bf16: bool = False, large: bool = False
    ) -> None:
        """Wrap a network.

        Args:
            name: of this part of a model, for messages.
            net: in eval mode; takes and gives tensors or a tuple of them.
            runtime: as `pick_runtime` gives it.
            examples: inputs on the network's device.
            bf16: OpenVINO is to multiply in bf16, where that gives about the same numbers; torch does what its caller
                says.
            large: its inputs are so large that memory counts; see `Large`.
        """
        self.name, self._net, self._runtime, self._examples, self._bf16 = name, net, runtime, examples, bf16
        self._form = Large if large else Compiled
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the network."""
        with self._lock:  # two threads must not convert twice
            compiled = self._compiled
        return _tuple(self._net(*inputs)) if isinstance(compiled, str) else compiled(*inputs)

    @property
    def report(self) -> tuple[str, str] | None:
        """Return what computed it and, where OpenVINO was wanted and torch did, why; None: it was not called."""
        compiled = self.__dict__.get("_compiled")
        if compiled is None:
            return None
        return ("torch", compiled) if isinstance(compiled, str) else ("openvino", "")

    def release(self) -> None:
        """Give back the memory that OpenVINO keeps for the largest input so far; the next call takes it again."""
        compiled = self.__dict__.get("_compiled")
        if compiled and not isinstance(compiled, str):
            compiled.release()

    @cached_property
    def _compiled(self) -> Compiled | Large | str:
        """The converted network, or why torch is to run it."""
        if self._runtime == "torch":
            return ""
        made = self._made_in("bf16") if self._bf16 else ""
        return self._made_in("f32") if isinstance(made, str) else made

    def _made_in(self, precision: str) -> Compiled | Large | str:
        """The network as it computes in a precision, or why it does not."""
        examples, settings = self._examples(), _settings(precision)
        core, folder = _core(), _folder()
        key = _key(self._net, examples, settings, core, self._form.__name__)
        kept = folder.load(key)
        if kept is not None and (known := _opened(kept, settings, core, self._form)) is not None:
            return known
        try:
            with torch.autocast("cpu", enabled=False):  # the caller may be in bf16, for torch
                made = self._form.of(_convert(self._net, examples), core, settings)
                problem = _difference(made, self._net, examples, precision)
        except Exception as error:  # its front end raises whatever a network leads it into
            made, problem = None, f"cannot be converted ({type(error).__name__})"
            if isinstance(error, MemoryError | OSError):  # there may be room the next time
                return problem
        if made is None or problem:
            folder.save(key, _sealed(False, problem.encode()))
            return problem
        folder.save(key, _sealed(True, made.content()))
        return made


def summarise(runners: Sequence[Runner]) -> str:
    """Return in a line what computed some networks: those that were called at all."""
    reports = [(runner.name, runner.report) for runner in runners]
    used = {report[0] for _, report in reports if report is not None}
    reasons = [f"{name} {report[1]}" for name, report in reports if report is not None and report[1]]
    if not reasons:
        return ", ".join(sorted(used)) or "none"
    return f"{'openvino; torch' if 'openvino' in used else 'torch'}, since {', '.join(reasons)}"


def _convert(net: nn.Module, examples: Sequence[tuple[Tensor, ...]]) -> Any:
    """Convert a network; sides in which the examples differ stay open."""
    openvino = _openvino()
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, which torch calls old and OpenVINO does
        # inputs must be no inference tensors
        example = tuple(value.clone() for value in examples[0])
        # not checked by torch: the converted network is compared below
        traced = torch.jit.trace(net, example, check_trace=False, strict=False)
        model = openvino.convert_model(traced, example_input=example)
    sides = [tuple(value.shape for value in values) for values in zip(*examples, strict=True)]
    for port, shapes in zip(model.inputs, sides, strict=True):
        several = [set(lengths) for lengths in zip(*shapes, strict=True)]
        port.get_node().set_partial_shape(
            openvino.PartialShape([-1 if len(lengths) > 1 else lengths.pop() for lengths in several])
        )
    model.validate_nodes_and_infer_types()
    return model


@torch.inference_mode()
def _difference(
    compiled: Compiled | Large, net: nn.Module, examples: Sequence[tuple[Tensor, ...]], precision: str
) -> str:
    """Return in words by how much a converted network differs from torch, where that is too much."""
    expected = [_tuple(net(*values)) for values in examples]
    for port, results in zip(compiled.model.outputs, zip(*expected, strict=True), strict=True):
        # a length that tracing took for a constant may end the process when another one comes
        for place, lengths in enumerate(zip(*(result.shape for result in results), strict=True)):
            if len(set(lengths)) > 1 and port.partial_shape[place].is_static:
                return "has sizes that cannot change"
    for values, results in zip(examples, expected, strict=True):
        for made, wanted in zip(compiled(*values), results, strict=True):
            if made.shape != wanted.shape:
                return f"gives other shapes ({tuple(made.shape)}, torch {tuple(wanted.shape)})"
            apart, size = (made - wanted).abs(), wanted.abs()
            # bf16 rounds single numbers by more, which says little of the whole
            over, bound = (torch.max, BOUND) if precision == "f32" else (torch.mean, BF16_BOUND)
            share = float(over(apart) / over(size).clamp(min=1e-6))
            if not share <= bound:
                return f"gives other numbers (by a share of {share:.1g})"
    return ""


def _key(
    net: nn.Module, examples: Sequence[tuple[Tensor, ...]], settings: Mapping[str, Any], core: Any, form: str
) -> str:
    """Hash of all that decides what is kept: weights, structure, sizes, form, this code, versions and CPU."""
    digest = hashlib.blake2b(digest_size=16)
    named = [*net.named_parameters(), *net.named_buffers()]
    for name, value in named:
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().view(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    shapes = [[(tuple(value.shape), str(value.dtype)) for value in values] for values in examples]
    chosen = {name: value for name, value in settings.items() if name != "INFERENCE_NUM_THREADS"}
    versions = [version(package) for package in ("openvino", "torch", "sam2", "timm")]
    cpu = core.get_property("CPU", "FULL_DEVICE_NAME")
    digest.update(repr((str(net), form, shapes, chosen, versions, cpu, _sources())).encode())
    return digest.hexdigest()


@cache
def _sources() -> str:
    """Hash of the code of all networks."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sealed(converted: bool, content: bytes) -> bytes:
    """Content of a file of the cache: a hash, whether it is a compiled network or the reason why there is none."""
    body = bytes([converted]) + content
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() + body


def _opened(
    content: bytes, settings: Mapping[str, Any], core: Any, form: type[Compiled] | type[Large]
) -> Compiled | Large | str | None:
    """Return what `_sealed` made, or None where the file is damaged or of another build of OpenVINO."""
    seal, body = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if not body or hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() != seal:
        return None
    if not body[0]:
        return body[1:].decode()
    try:
        return form.read(body[1:], core, settings)
    except RuntimeError:
        return None


def _settings(precision: str) -> dict[str, Any]:
    """One request at a time on torch's number of threads, on any core: other processes have theirs, too."""
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }


def _folder() -> CacheFolder:
    chosen = os.environ.get(CACHE_VARIABLE)
    return CacheFolder((Path(chosen) if chosen else platformdirs.user_cache_path("hybridseg")) / "openvino", ".blob")


@cache
def _core() -> Any:
    return _openvino().Core()


@cache
def _openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which would report each import to Google Analytics."""
    with _absent("openvino_telemetry"):
        import openvino

        return openvino


@contextmanager
def _absent(package: str) -> Iterator[None]:
    """Make imports of a package fail while the block runs, as if it were not installed."""
    before = sys.modules.get(package)
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
        if before is not None:
            sys.modules[package] = before


def _tuple(outputs: Any) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
