"""What made a result: the request with every choice resolved, the weights, the imagery, and whom to credit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd

from hybridseg.run.survey import Survey
from hybridseg.write.lineage import Credit, Provenance, file_hash


def provenance_of(surveys: Sequence[Survey], attribution: str | None, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what made a result: the request with every choice resolved, so that the run can be repeated.

    Args:
        surveys: that made it.
        attribution: who must be named for the imagery; None: nobody is known.
        request: what was asked for beside scene, bands, themes and refiners.
    """
    scene = surveys[0].scene
    models = {name: sha for survey in surveys for name, sha in survey.models.hashes.items()}
    credits = [*([Credit("imagery", attribution)] if attribution else []), *_credits_of_models(surveys)]
    asked = {
        "scene": scene.name,
        "bands": list(scene.bands),
        "themes": [survey.theme.to_yaml() for survey in surveys],
        "refiners": [survey.models.refiner_name for survey in surveys],
        **request,
    }
    return Provenance.collect(
        request=asked,
        models=models,
        source=scene.name,
        source_fingerprint=scene.fingerprint,
        credits=credits,
    ).to_dict()


def _credits_of_models(surveys: Sequence[Survey]) -> list[Credit]:
    """Whom and which licence the cards of the classifiers name."""
    cards = {survey.models.classifier.name: survey.models.classifier.card for survey in surveys}
    named = {name: (card.get("attribution"), card.get("licence", card.get("license"))) for name, card in cards.items()}
    return [
        Credit(name, str(whom or f"weights {name}"), str(licence or ""))
        for name, (whom, licence) in named.items()
        if whom or licence
    ]


def input_of(source: str | Path | gpd.GeoDataFrame | None) -> dict[str, str] | None:
    """An input of prompts or masks, with the hash of its content."""
    if source is None:
        return None
    if isinstance(source, gpd.GeoDataFrame):
        return {"name": "a GeoDataFrame", "sha256": ""}
    return {"name": str(source), "sha256": file_hash(source) if Path(source).is_file() else ""}
