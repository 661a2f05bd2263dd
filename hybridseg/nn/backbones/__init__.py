"""Backbones by name: which bands they take, and the feature maps they give, fine to coarse.

    lite0                     EfficientNet-Lite0, the embedded classifiers' own trunk
    lite0-pyramid             the same with a trained classifier's pyramid above it: the features of the linear head
    sam2, sam2:REFINER        the encoder of a refiner (sam2-lite, or an official checkpoint)
    timm:NAME                 any model of timm that gives features
    torchgeo:WEIGHTS          as torchgeo names them: Swin_V2_B_Weights.NAIP_RGB_SI_SATLAS, DOFABase16_Weights.DOFA_MAE
    terratorch:NAME           clay_v15, prithvi_eo_v2_300, ... (extra `geofm`)
    index:EXPRESSION          a spectral index, as index:ndwi (see `hybridseg.nn.indices`)

Each kind is a module with `build(name, pretrained) -> Backbone`, imported when it is asked for: torchgeo and terratorch
take seconds to import, and the modules of `sam2` and `lite0-pyramid` stand on this one. A backbone takes images as
`base.prepare` gives them: 8-bit red, green and blue or, where it was trained on other bands, those as they are stored.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import lazy_loader

from hybridseg.errors import WeightsError
from hybridseg.nn.backbones.base import Backbone
from hybridseg.nn.cards import announce


@dataclass(frozen=True)
class Kind:
    """A kind of backbone.

    module: has the function `build`.
    argument: what is to be given after the colon; None: nothing.
    optional: whether the colon and the argument may be left out.
    """

    module: str
    argument: str | None = None
    optional: bool = False


KINDS: Mapping[str, Kind] = {
    "lite0": Kind("hybridseg.nn.backbones.lite0"),
    "lite0-pyramid": Kind("hybridseg.nn.classify.heads"),
    "sam2": Kind("hybridseg.nn.sam2.official", "REFINER", optional=True),
    "timm": Kind("hybridseg.nn.backbones.timm", "NAME"),
    "torchgeo": Kind("hybridseg.nn.backbones.torchgeo", "WEIGHTS"),
    "terratorch": Kind("hybridseg.nn.backbones.terratorch", "NAME"),
    "index": Kind("hybridseg.nn.backbones.index", "EXPRESSION"),
}


def build_backbone(name: str, pretrained: bool = False) -> Backbone:
    """Make a backbone by name.

    Args:
        name: see the head of this file.
        pretrained: with its published weights, fetched to the user's cache unless they are there; else with random
            ones, to be filled from a model folder, and without any use of the network.

    Raises:
        WeightsError: unknown name, or weights that cannot be had.
        MissingExtra: it needs an extra.
    """
    kind, _, argument = name.partition(":")
    known = KINDS.get(kind)
    if known is None or not (known.optional or bool(argument) == (known.argument is not None)):
        raise WeightsError(f"no backbone {name!r}; give one of {', '.join(_forms())}")
    module = importlib.import_module(known.module)
    if pretrained and kind != "sam2":  # whose refiner says it itself
        announce(name)
    try:
        backbone: Backbone = module.build(argument, pretrained)
    except _fetching_fails() as error:  # looked up when something is raised, and not before
        raise WeightsError(
            f"cannot fetch the weights of {name} ({type(error).__name__}); check the connection or the cache"
        ) from error
    return backbone


def _fetching_fails() -> tuple[type[Exception], ...]:
    """What is raised where weights cannot be fetched."""
    import httpx2  # the client that huggingface-hub 2 uses

    return OSError, httpx2.HTTPError


def _forms() -> list[str]:
    """Each kind as it is to be written."""
    forms = []
    for name, kind in KINDS.items():
        forms += [name] if kind.argument is None or kind.optional else []
        forms += [f"{name}:{kind.argument}"] if kind.argument else []
    return forms


__getattr__, _, _ = lazy_loader.attach(__name__, ["base", "index", "lite0", "terratorch", "timm", "torchgeo"])
