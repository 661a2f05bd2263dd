"""How a model is trained: one YAML file a model, under configs/recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hybridseg.errors import ThemeError


class DataSet(BaseModel):
    """One source of scenes and how often it is drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(gt=0, description="how often it is drawn, relative to the others")
    dataset: str | None = Field(None, description="its name in the table, if not the entry's own")
    split: str = "train"
    images: str = Field("*", description="glob of the images to take, by name without ending")
    label: str = Field("building", description="class of its objects")
    codes: dict[str, int] = Field(default_factory=dict, description="class to code, where labels are codes; 0 unknown")
    labels: str | None = Field(None, description="folder of configs/labels: its labels instead of the table's")
    unknown: list[int] = Field(default_factory=list, description="codes or ids of ground to say nothing of")
    without: list[str] = Field(default_factory=list, description="classes that it holds none of")
    ndwi: str | None = Field(None, description="glob of images to label by NDWI instead of the table")
    ndwi_bands: tuple[int, int] = Field((2, 4), description="numbers of the green and the infrared band; SWIR: MNDWI")
    rgb_bands: tuple[int, int, int] = Field((1, 2, 3), description="numbers of the bands that are shown, with `ndwi`")
    rgb_gain: tuple[float, float, float] = Field((1.0, 1.0, 1.0), description="what they are multiplied by")
    gsd_m: float | None = Field(None, gt=0, description="its GSD, where the table does not know or scale is to vary")
    work_gsd_m: float | None = Field(None, gt=0, description="what it is shown at, if not at the recipe's gsd_m")
    seen_gsd_m: float | None = Field(None, gt=0, description="coarsened to this GSD first, as a satellite sees it")
    zoom: tuple[float, float] = Field((0.65, 1.5), description="classifier only: range of random scale")
    towns: int = Field(0, ge=0, description="render so many towns instead of reading the set from the table")
    supports: str | None = Field(None, description="refiner only: stage or model whose heatmap gives coarse supports")
    supports_theme: str = Field("buildings", description="theme that says how objects are found on that heatmap")
    supports_on: str = Field("*", description="glob of the images that this model was not trained on")


class Stage(BaseModel):
    """One training run of a recipe. Lengths are pixels where they end in `_px`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("", pattern=r"^[\w.-]*$", description="folder of the run; of a recipe's only stage: none")
    kind: Literal["classifier", "refiner", "memory"]
    classes: list[str] = Field(default_factory=lambda: ["building"], description="classifier only: what it tells apart")
    start: str | None = Field(None, description="stage or model to start from; none: ImageNet trunk")
    keep: float = Field(1.0, gt=0, le=1, description="share of these weights in what comes out; the rest is `start`")
    sets: dict[str, DataSet]
    steps: int = Field(gt=0, description="length of the learning rate's schedule")
    stop: int | None = Field(None, gt=0, description="end after so many steps, with the rate still high; none: steps")
    batch: int = Field(8, gt=0)
    size_px: int = Field(256, multiple_of=32)
    rate: float = Field(1e-3, gt=0)
    seed: int = 0
    average: bool = Field(False, description="a running average of the weights comes out, not the last ones")
    free: int | None = Field(None, ge=0, description="so many last stages of the trunk learn; none: all of it")
    shade: list[str] = Field(default_factory=list, description="classifier only: classes with one side put in shade")
    dye: list[str] = Field(default_factory=list, description="classifier only: classes of water, to be recoloured")
    park: list[str] = Field(default_factory=list, description="classifier only: classes that parked cars are not")
    paste: list[str] = Field(default_factory=list, description="classifier only: classes copied onto other ground")
    mix: bool = Field(False, description="classifier only: fill what lies beside a tile with another crop")
    degrade: bool = Field(False, description="classifier only: coarser pixels, haze, JPEG")
    gsd_m: float = Field(0.25, gt=0, description="classifier only: ground sampling distance that it works at")

    @model_validator(mode="after")
    def _has_what_it_starts_from(self) -> Self:
        if self.kind == "memory" and not self.start:
            raise ValueError("kind memory trains the memory of a refiner: give its stage or folder as `start`")
        if self.keep < 1 and not self.start:
            raise ValueError("keep adds weights to those of `start`: give one, or leave keep out")
        return self

    @property
    def last(self) -> int:
        """The step at which it ends."""
        return self.stop or self.steps


class Recipe(BaseModel):
    """How a model is made: stages in the order in which they run; the last gives the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="name of the folder under models/ that the weights go to")
    stages: list[Stage] = Field(min_length=1)
    card: dict[str, object] = Field(default_factory=dict, description="copied into the card: GSD range, data, licence")

    @model_validator(mode="before")
    @classmethod
    def _stages_share_what_stands_above_them(cls, told: dict[str, Any]) -> dict[str, Any]:
        own = {key: told[key] for key in ("model", "card") if key in told}
        shared = {key: value for key, value in told.items() if key not in ("model", "card", "stages")}
        return own | {"stages": [shared | stage for stage in told.get("stages", [{}])]}

    @model_validator(mode="after")
    def _stages_have_names(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(names) > 1 and (not all(names) or len(set(names)) < len(names)):
            raise ValueError("several stages need a name each")
        return self


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    With `from: NAME` the stages of the recipe NAME.yaml beside it come before its own, as if they stood there.

    Raises:
        ThemeError: no such file, unknown key or value out of range; names the key. Or a recipe comes from itself.
    """
    return _load(path, ())


def _load(path: Path, after: tuple[Path, ...]) -> Recipe:
    """Read a recipe from which `after` come, each from the next."""
    if path.resolve() in after:
        raise ThemeError(f"{path}: from: the recipe comes from itself; name one that does not come from it")
    try:
        told = yaml.safe_load(path.read_text())
        if "from" in told:
            earlier = _load(path.parent / f"{told.pop('from')}.yaml", (*after, path.resolve()))
            told["stages"] = [*(stage.model_dump() for stage in earlier.stages), *told.get("stages", [{}])]
        return Recipe.model_validate(told)
    except OSError as error:
        raise ThemeError(f"no recipe at {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError, TypeError, AttributeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "no recipe in YAML"}
        raise ThemeError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
