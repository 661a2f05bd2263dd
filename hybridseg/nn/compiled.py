"""Networks that OpenVINO computes, in two forms: compiled once for all shapes, or for the shapes at hand."""

from __future__ import annotations

import io
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Compiled:
    """A compiled model; each thread has its own request for it."""

    def __init__(self, model: Any) -> None:
        self.model, self._own = model, threading.local()

    @classmethod
    def of(cls, model: Any, core: Any, settings: Mapping[str, Any]) -> Compiled:
        """Compile a converted network."""
        return cls(core.compile_model(model, "CPU", settings))

    @classmethod
    def read(cls, content: bytes, core: Any, settings: Mapping[str, Any]) -> Compiled:
        """Return what `content` gave."""
        return cls(core.import_model(io.BytesIO(content), "CPU", settings))

    def content(self) -> bytes:
        """Return it as bytes, compiled."""
        return bytes(self.model.export_model().getvalue())

    def release(self) -> None:
        """Give back the memory of the largest input so far."""
        self.model.release_memory()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run it."""
        if not hasattr(self._own, "request"):
            self._own.request = self.model.create_infer_request()
        request = self._own.request
        request.infer([value.contiguous().numpy() for value in inputs], share_inputs=True)
        # the request will use its own arrays again
        return tuple(torch.from_numpy(np.array(tensor.data)) for tensor in request.output_tensors)


class Large:
    """A model that is compiled for the shapes at hand, and anew when others come.

    OpenVINO then knows which of the maps between two layers may lie in one place: it takes half the memory that it
    takes where shapes are open, and no more time, since there it prepares its kernels for each new shape, too.
    """

    def __init__(self, model: Any, core: Any, settings: Mapping[str, Any]) -> None:
        self.model, self._core, self._settings = model, core, settings
        self._lock = threading.Lock()
        self._last: tuple[list[tuple[int, ...]], Compiled] | None = None

    @classmethod
    def of(cls, model: Any, core: Any, settings: Mapping[str, Any]) -> Large:
        """Take a converted network."""
        return cls(model, core, settings)

    @classmethod
    def read(cls, content: bytes, core: Any, settings: Mapping[str, Any]) -> Large:
        """Return what `content` gave."""
        length = int.from_bytes(content[:8], "big")
        return cls(core.read_model(content[8 : 8 + length], content[8 + length :]), core, settings)

    def content(self) -> bytes:
        """Return it as bytes, not compiled: length of the description, description, weights."""
        with tempfile.TemporaryDirectory() as folder:
            import openvino  # here alone: `runtime` has imported it without its telemetry

            openvino.save_model(self.model, Path(folder) / "net.xml", compress_to_fp16=False)
            text, weights = ((Path(folder) / f"net.{suffix}").read_bytes() for suffix in ("xml", "bin"))
        return len(text).to_bytes(8, "big") + text + weights

    def release(self) -> None:
        """Give back all that was made for the last shapes."""
        self._last = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run it, compiled for the shapes of these inputs."""
        shapes = [tuple(value.shape) for value in inputs]
        with self._lock:
            if self._last is None or self._last[0] != shapes:
                self._last = None  # first: two of them would take twice the memory
                fixed = self.model.clone()
                fixed.reshape(dict(enumerate(map(list, shapes))))
                self._last = shapes, Compiled.of(fixed, self._core, self._settings)
            compiled = self._last[1]
        return compiled(*inputs)
