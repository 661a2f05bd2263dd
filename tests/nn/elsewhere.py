"""Run in another process by the fixture `elsewhere`: models that were sent here, without the optional packages."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from typing import Any

OPTIONAL = ("lightning", "pytorch_lightning", "sklearn", "torchgeo", "terratorch")


def facts() -> dict[str, Any]:
    """What works here; models and a chip come pickled on standard input."""
    sys.modules.update(dict.fromkeys(OPTIONAL))  # None makes an import fail as if the package were not installed
    from hybridseg.errors import MissingExtra
    from hybridseg.nn.sam2.memory import track
    from hybridseg.nn.sam2.official import load_refiner

    models, chip = pickle.load(sys.stdin.buffer)
    again = pickle.loads(pickle.dumps(models))
    embedding = models.refiner.encode(chip)
    images = chip.pixels[None].repeat(2, 0)
    masks = chip.valid[None]
    found: dict[str, Any] = {
        "opened once": again.classifier is models.classifier and again.refiner is models.refiner,
        "place": embedding.geobox == chip.geobox,
        "heat": models.classifier.predict(chip.pixels).tolist(),
        "coarse": embedding.coarse.tolist(),
        "tracked": track(load_refiner("sam2-lite", "cpu", decode_px=512).model, images, masks)[0].shape,
    }
    for name in ("fit", "learners"):
        try:
            importlib.import_module(f"hybridseg.nn.training.{name}")
        except MissingExtra as error:
            found[name] = str(error)
    for name in OPTIONAL:
        del sys.modules[name]
    found["linear"] = importlib.import_module("hybridseg.nn.training.linear").fit_linear.__name__
    backbones = importlib.import_module("hybridseg.nn.backbones")
    backbones.build_backbone("lite0")
    backbones.build_backbone("timm:resnet18")
    found["loaded"] = [name for name in ("torchgeo", "terratorch", "lightning") if name in sys.modules]
    return found


if __name__ == "__main__":
    json.dump(facts(), sys.stdout)
