"""Overhead imagery to labelled maps: a classifier says what, SAM2 says where, exactly.

Verbs: `extract`, `track`, `evaluate`, `review`, `serve`, `finetune`, `tune`, `train`, `models`. The heart below them:
`open_scene`, `Survey`, `load_theme`, `Models`. `__init__.pyi` says where each name lives; names load on first use
(scientific-python's SPEC 1), so that importing the package need not wait for torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
