"""The only place that imports torch. Its rooms load on first use, so that nothing else need wait for torch.

Elsewhere write `from hybridseg import nn`, then `nn.models.Models.open(...)` (scientific-python's SPEC 1).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
