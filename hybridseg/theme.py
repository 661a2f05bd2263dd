"""A theme is data: what to look for, how to prompt, when to trust a refined mask, how to shape the result.

One YAML file each under configs/themes; a path to a file of one's own works wherever a name does.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, field_validator

from hybridseg.errors import ThemeError
from hybridseg.resources import configs_folder


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InstancePolicy(_Settings):
    """Discrete objects: peaks of interior, a watershed inside extent."""

    kind: Literal["instances"] = "instances"
    extent: float = Field(0.5, gt=0, lt=1, description="a pixel is the class above this probability")
    peak: float = Field(0.3, ge=0, lt=1, description="least interior at an object's peak")
    rise: float = Field(0.1, ge=0, lt=1, description="least rise of a peak above the saddle to a higher one")
    join: float = Field(1.0, gt=0, le=1, description="peaks are one object where interior at the saddle reaches this")
    smooth_m: float = Field(0.5, ge=0, description="standard deviation of the blur of interior before peaks are sought")
    min_area_m2: float = Field(6.0, ge=0)
    min_score: float = Field(0.5, ge=0, le=1, description="least mean extent inside a support")
    max_object_m: float = Field(150.0, gt=0, description="objects up to this size are found whole, whatever the blocks")

    @property
    def reach_m(self) -> float:
        """How far around an extent the heatmap must be known."""
        return self.max_object_m


class RegionPolicy(_Settings):
    """Ground of any size and shape, as lakes or road networks: connected extent, refined piece by piece."""

    kind: Literal["regions"] = "regions"
    extent: float = Field(0.5, gt=0, lt=1, description="a pixel is the class above this probability")
    smooth_m: float = Field(0.0, ge=0, description="standard deviation of the blur of extent before the threshold")
    min_area_m2: float = Field(100.0, ge=0)
    min_hole_m2: float = Field(0.0, ge=0, description="smaller holes are filled")
    min_score: float = Field(0.5, ge=0, le=1, description="least mean extent inside a region")
    piece_m: float = Field(200.0, gt=0, description="regions larger than this are refined in pieces of this size")
    overlap_m: float = Field(20.0, ge=0, description="what neighbouring pieces share")

    @property
    def reach_m(self) -> float:
        """How far around an extent the heatmap must be known."""
        return self.piece_m


class GridPolicy(_Settings):
    """Everything mode: a point on every so many metres; the heatmap says afterwards which masks are the class."""

    kind: Literal["grid"] = "grid"
    step_m: float = Field(5.0, gt=0, description="distance between points")
    object_m: float = Field(15.0, gt=0, description="size of objects that windows are chosen for")
    extent: float = Field(0.5, gt=0, lt=1, description="least mean extent under a mask that is kept")
    min_area_m2: float = Field(6.0, ge=0)

    @property
    def reach_m(self) -> float:
        """How far around an extent the heatmap must be known."""
        return self.object_m


ObjectPolicy = Annotated[InstancePolicy | RegionPolicy | GridPolicy, Field(discriminator="kind")]


PromptPart = Literal["box", "points", "hint"]


class PromptPolicy(_Settings):
    """What the refiner is told about each object, and at what zoom it sees it."""

    parts: frozenset[PromptPart] = frozenset({"box", "points", "hint"})
    negatives: int = Field(3, ge=0, le=8, description="most points on touching neighbours")
    span: float = Field(0.3, gt=0.05, le=0.7, description="most of the window's side that an object's box may take")
    max_zoom: float = Field(4.0, ge=1, description="most that source pixels are enlarged for the refiner")
    windows: Literal["own", "shared"] = Field(
        "own",
        description="own: each object at the zoom that suits it; shared: through the first sweep's windows, encoded "
        "once for both, where the classifier looks through the refiner's encoder; span and max_zoom do not count then",
    )

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
    refiner: str = Field("sam2-lite", description="what refines when the user names none; `none` where coarse is best")
    work_gsd_m: tuple[float, float] | None = Field(
        None, description="finest and coarsest GSD that the classifier is shown; the source's own in between"
    )
    max_gsd_m: float | None = Field(
        None, gt=0, description="coarser sources are refused; none: as the model's card says"
    )
    objects: ObjectPolicy = InstancePolicy()
    prompts: PromptPolicy = PromptPolicy()
    gate: Gate = Gate()
    shape: Literal["buildings", "rows", "coverage", "roads", "none"] = "none"

    @field_validator("objects", mode="before")
    @classmethod
    def _kind(cls, value: Any) -> Any:
        """Discrete objects where nothing else is said."""
        return {"kind": "instances", **value} if isinstance(value, dict) else value

    @property
    def discrete(self) -> bool:
        """Whether objects count one by one (buildings, arrays, fields), not the ground they cover (water, roads)."""
        return isinstance(self.objects, InstancePolicy) or self.shape in ("buildings", "rows")

    def to_yaml(self) -> str:
        """The resolved theme, every default spelled out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=True)

    def fingerprint(self) -> str:
        """sha256 of the resolved theme."""
        return hashlib.sha256(self.to_yaml().encode()).hexdigest()

    def gsd_m(self, source_m: float, own_m: float) -> float:
        """What a classifier made for `own_m` works at on a source of `source_m`."""
        finest, coarsest = self.work_gsd_m or (own_m, own_m)
        return min(max(source_m, finest), coarsest)

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
        settings = yaml.safe_load(path.read_text())
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ThemeError(f"no theme {str(name)!r}; there are {known}; or give the path of a theme's YAML") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date that there is not
        raise ThemeError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        found = "is empty" if settings is None else "holds no settings"
        raise ThemeError(f"{path} {found}; a theme gives at least `name:`, `label:` and `classifier:`")
    try:
        theme = Theme.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise ThemeError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    # a model's own theme lies in its folder, wherever that is moved to
    return theme.model_copy(update={"classifier": str(path.parent)}) if theme.classifier == "." else theme
