"""A theme is data: what to look for, how to prompt, when to trust a refined mask, how to shape the result.

Its parts are the settings of the stages themselves. One YAML file each under configs/themes; a path to a file of one's
own works wherever a name does.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from hybridseg.errors import ThemeError
from hybridseg.folders import configs_folder
from hybridseg.shape import AsTraced, Shape, Smooth
from hybridseg.types import Settings
from hybridseg.what import Instances, Objects
from hybridseg.where.gate import Gate
from hybridseg.where.refine import PromptSettings

SETTINGS = (".yaml", ".yml")
"""Suffixes by which a theme's file is told from a name."""

_Gsd = Annotated[float, Field(ge=1e-3, le=1e4)]


class Theme(Settings):
    """One theme, whole. Lengths are metres."""

    name: str = Field(pattern=r"^[^/\\\p{Cc}]+$", description="part of the names of files")
    label: str = Field(min_length=1, description="class written to the result")
    classifier: str = Field(min_length=1, description="embedded model, or path of a model folder")
    refiner: str = Field("sam2-lite", description="what refines when the user names none; `none` where coarse is best")
    work_gsd_m: tuple[_Gsd, _Gsd] | None = Field(
        None, description="finest and coarsest GSD that the classifier is shown; the source's own in between"
    )
    scales: tuple[Annotated[int, Field(ge=1, le=16)], ...] = Field(
        (1,),
        min_length=1,
        description="how many times coarser than at the working GSD the classifier is shown the scene, up to the "
        "coarsest of `work_gsd_m`; of several scales the highest probability counts",
    )
    looks: Literal[1, 2, 4, 8] = Field(
        1, description="how often the classifier is shown each window, turned and mirrored; the mean counts"
    )
    max_gsd_m: _Gsd | None = Field(None, description="coarser sources are refused; none: as the model's card says")
    by_bands: tuple[str, ...] = Field(
        (), description="themes of the same class taken instead, the first whose index has its bands in the scene"
    )
    objects: Objects = Instances()
    prompts: PromptSettings = PromptSettings()
    gate: Gate = Gate()
    shape: Shape = AsTraced()

    @field_validator("objects", mode="before")
    @classmethod
    def _instances_by_default(cls, value: Any) -> Any:
        return {"kind": "instances", **value} if isinstance(value, dict) else value

    @field_validator("shape", mode="before")
    @classmethod
    def _kind_alone(cls, value: Any) -> Any:
        """Take `shape: rows` for `shape: {kind: rows}`."""
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _finest_first(self) -> Self:
        if self.work_gsd_m is not None and self.work_gsd_m[0] > self.work_gsd_m[1]:
            raise ValueError(f"work_gsd_m is {list(self.work_gsd_m)}; give the finest first, then the coarsest")
        return self

    @property
    def counted(self) -> bool:
        """Whether objects count one by one (buildings, arrays, fields), not by the ground they cover (water, roads)."""
        return self.objects.counted or self.shape.kind in ("buildings", "rows")

    def to_yaml(self) -> str:
        """Return the resolved theme, every default spelled out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=True)

    def fingerprint(self) -> str:
        """Return the sha256 of the resolved theme."""
        return hashlib.sha256(self.to_yaml().encode()).hexdigest()

    def score_fingerprint(self, refiner: str) -> str:
        """Return the sha256 of all that decides which objects come out, and so what a score means.

        Args:
            refiner: name of the one in use, or `none`.
        """
        kept = {"label", "objects", "prompts", "gate", "work_gsd_m", "scales", "looks"}
        parts = self.model_dump(mode="json", include=kept)
        return hashlib.sha256(json.dumps([parts, refiner], sort_keys=True).encode()).hexdigest()

    def gsd_m(self, source_m: float, own_m: float | None) -> float:
        """Return the GSD that a classifier made for `own_m` (None: for any) works at on a scene of `source_m`."""
        if own_m is None:  # it gains nothing by enlarged pixels
            return max(source_m, self.work_gsd_m[0] if self.work_gsd_m else 0.0)
        finest, coarsest = self.work_gsd_m or (own_m, own_m)
        return min(max(source_m, finest), coarsest)

    def scales_at(self, gsd_m: float) -> tuple[int, ...]:
        """Return the scales that are not coarser than the theme allows at a working GSD; the finest always is one.

        A tenth may be lacking: 0.6 m imagery in a projected CRS may measure 0.62 m on the ground.
        """
        coarsest = self.work_gsd_m[1] if self.work_gsd_m else math.inf
        return tuple(s for s in self.scales if s == self.scales[0] or s * gsd_m <= 1.1 * coarsest)

    def shaped(self, how: str) -> Theme:
        """Return a copy whose outlines are shaped in another way: traced, smooth, or regular.

        Raises:
            ThemeError: another word, or regular where the theme's objects have no regular shape.
        """
        own, regular = self.shape, self.shape.kind in ("buildings", "rows")
        smooth = own if own.kind in ("coverage", "lines", "smooth") else Smooth()
        stages: dict[str, Shape] = {"traced": AsTraced(), "smooth": smooth, "regular": own}
        if how not in stages:
            raise ThemeError(f"the shape is {how!r}; give one of {', '.join(stages)}")
        if how == "regular" and not regular:
            raise ThemeError(f"theme {self.name} has no regular shapes; give --shape traced or smooth, or leave it out")
        return self.model_copy(update={"shape": stages[how]})

    def with_prompts(self, **changes: Any) -> Theme:
        """Return a copy with other prompt settings."""
        return self.model_copy(update={"prompts": self.prompts.model_copy(update=changes)})


def theme_path(name: str | Path) -> Path:
    """Return the YAML of a theme by name (embedded) or by the path of its file."""
    return Path(name) if str(name).endswith(SETTINGS) else configs_folder() / "themes" / f"{name}.yaml"


def load_theme(name: str | Path) -> Theme:
    """Read a theme by name (embedded) or by the path of its YAML.

    Raises:
        ThemeError: unknown name, or a key or value that is not allowed.
    """
    path = theme_path(name)
    try:
        settings = yaml.safe_load(path.read_text())
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in (configs_folder() / "themes").glob("*.yaml")))
        raise ThemeError(f"no theme {str(name)!r}; there are {known}; or give the path of a theme's YAML") from error
    # ValueError: no UTF-8, or a date that there is not; RecursionError: nested without end
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ThemeError(f"{path} is not YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(settings, dict):
        found = "is empty" if settings is None else "holds no settings"
        raise ThemeError(f"{path} {found}; a theme gives at least `name:`, `label:` and `classifier:`")
    try:
        json.dumps(settings, ensure_ascii=False, default=str, skipkeys=True).encode()
        theme = Theme.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        said = f"{'.'.join(map(str, first['loc'])):.200}: {first['msg']}"
        raise ThemeError(f"{path}: {' '.join(said.split())[:400]}") from error
    except UnicodeEncodeError as error:
        raise ThemeError(f"{path} holds text that is no Unicode: {error.reason}") from error
    except (ValueError, RecursionError) as error:  # an anchor inside itself
        raise ThemeError(f"{path} holds itself: {' '.join(str(error).split())[:300]}") from error
    # a model's own theme lies in its folder, wherever that is moved to
    return theme.model_copy(update={"classifier": str(path.parent)}) if theme.classifier == "." else theme
