"""A theme is data: what to look for, how to prompt, when to trust a refined mask, how to shape the result.

One YAML file each under configs/themes; a path to a file of one's own works wherever a name does.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer

from hybridseg.errors import ThemeError
from hybridseg.resources import configs_folder


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InstancePolicy(_Settings):
    """How objects are found on the heatmap: peaks of interior, a watershed inside extent."""

    extent: float = Field(0.5, gt=0, lt=1, description="a pixel is the class above this probability")
    peak: float = Field(0.3, ge=0, lt=1, description="least interior at an object's peak")
    rise: float = Field(0.1, ge=0, lt=1, description="least rise of a peak above the saddle to a higher one")
    smooth_m: float = Field(0.5, ge=0, description="standard deviation of the blur of interior before peaks are sought")
    min_area_m2: float = Field(6.0, ge=0)
    min_score: float = Field(0.5, ge=0, le=1, description="least mean extent inside a support")
    max_object_m: float = Field(150.0, gt=0, description="objects up to this size are found whole, whatever the blocks")


PromptPart = Literal["box", "points", "hint"]


class PromptPolicy(_Settings):
    """What the refiner is told about each object, and at what zoom it sees it."""

    parts: frozenset[PromptPart] = frozenset({"box", "points", "hint"})
    negatives: int = Field(3, ge=0, le=8, description="most points on touching neighbours")
    span: float = Field(0.3, gt=0.05, le=0.7, description="most of the window's side that an object's box may take")
    max_zoom: float = Field(4.0, ge=1, description="most that source pixels are enlarged for the refiner")

    @field_serializer("parts")
    def _in_order(self, parts: frozenset[str]) -> list[str]:
        return sorted(parts)  # a set's own order changes from process to process, and with it the fingerprint


class Gate(_Settings):
    """What a refined mask must reach; below, the coarse outline stays."""

    iou_pred: float = Field(0.5, ge=0, le=1)
    stability: float = Field(0.6, ge=0, le=1)
    agreement: float = Field(0.4, ge=0, le=1, description="IoU of the refined mask with the heatmap's support")


class Theme(_Settings):
    """One theme, whole. Lengths are metres."""

    name: str
    label: str = Field(description="class written to the result")
    classifier: str = Field(description="embedded model, or path of a model folder")
    instances: InstancePolicy = InstancePolicy()
    prompts: PromptPolicy = PromptPolicy()
    gate: Gate = Gate()
    regularise: Literal["buildings", "none"] = "none"

    def to_yaml(self) -> str:
        """The resolved theme, every default spelled out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=True)

    def fingerprint(self) -> str:
        """sha256 of the resolved theme."""
        return hashlib.sha256(self.to_yaml().encode()).hexdigest()

    def with_prompts(self, **changes: Any) -> Theme:
        """A copy with other prompt settings."""
        return self.model_copy(update={"prompts": self.prompts.model_copy(update=changes)})


def load_theme(name: str | Path) -> Theme:
    """A theme by name (embedded) or by the path of its YAML.

    Raises:
        ThemeError: unknown name, or a key or value that is not allowed.
    """
    folder = configs_folder() / "themes"
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    try:
        return Theme.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ThemeError(f"no theme {str(name)!r}; there are {known}; or give the path of a theme's YAML") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ThemeError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ThemeError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
