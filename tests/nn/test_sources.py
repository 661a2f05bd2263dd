"""What would be fetched says so, with its licence, before it is."""

from __future__ import annotations

import pytest
import timm

from hybridseg.errors import HybridsegWarning, WeightsError
from hybridseg.nn.backbones import KINDS, build_backbone
from hybridseg.nn.cards import UNVERIFIED, model_folder, source_of
from hybridseg.nn.sam2.official import EDGETAM, OFFICIAL
from hybridseg.run.models import models

real = timm.create_model


def test_every_name_that_is_fetched_has_a_source():
    for name in [*OFFICIAL, *OFFICIAL.values(), EDGETAM]:
        assert source_of(name).licence == "Apache-2.0"
    for kind, known in KINDS.items():
        if kind not in ("lite0", "lite0-pyramid", "index"):
            assert source_of(f"{kind}:{known.argument}") is not None
    assert source_of("lite0") is source_of("index:ndwi") is source_of("sam2-lite") is None
    assert "DINOv3" in source_of("timm:vit_small_patch16_dinov3.lvd1689m").licence
    assert source_of("timm:resnet18").licence == UNVERIFIED
    assert source_of("torchgeo:ResNet18_Weights.LANDSAT_TM_TOA_MOCO").licence == "CC0-1.0"
    assert source_of("torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO").licence == UNVERIFIED


def test_models_tells_of_them_and_fetches_nothing():
    told = {card.name: card for card in models()}
    assert {"sam2-lite", "sam2.1-hiera-tiny", "edgetam", "terratorch:clay_v15"} <= set(told)
    assert "licence Apache-2.0" in told["edgetam"].line()
    (card,) = models("timm:vit_base_patch16_dinov3")
    assert "DINOv3 License" in card.to_dict()["licence"]


def test_backbones_and_folders_say_it_before(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("timm.create_model", lambda *_, **how: 1 / 0 if how.get("pretrained") else real(*_, **how))
    with pytest.warns(HybridsegWarning, match=r"timm:resnet18: licence not verified"), pytest.raises(ZeroDivisionError):
        build_backbone("timm:resnet18", pretrained=True)
    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.warns(HybridsegWarning, match="hf:owner/name"), pytest.raises(WeightsError):
        model_folder("hf:owner/name")


def unreachable(*_: object, **__: object) -> str:
    raise OSError("no network")
