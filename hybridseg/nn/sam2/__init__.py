"""SAM2: promptable models by name, sam2-lite, its memory over several dates, and one encoder for both sweeps."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
