"""Spectral indices by name: arithmetic on named bands, and the logistic scale that makes it a probability.

    index:ndwi                      a name of `KNOWN`
    index:(green - nir) / (green + nir)     any arithmetic on bands: + - * / **, abs, sqrt, numbers, parentheses
    index:ndwi@0.05,30              the same with a scale of its own: 0.5 at 0.05, slope 30 (logits a unit)

Bands go by the names of `hybridseg.read.bands`, or as band4 by their number. An expression is parsed, never evaluated
as Python.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from hybridseg.errors import WeightsError

PREFIX = "index:"
LONGEST = 300
"""Characters of an expression."""
STEEPNESS = 20.0
"""Slope of the scale where none is given: half a tenth beside the centre is 0.73, a tenth 0.88, two tenths 0.98."""


@dataclass(frozen=True)
class Known:
    """An index of the literature. formula: on named bands; centre: its usual threshold."""

    formula: str
    centre: float


KNOWN: Mapping[str, Known] = {
    "ndwi": Known("(green - nir) / (green + nir)", 0.0),  # open water; McFeeters 1996, Int. J. Remote Sens. 17:1425
    "mndwi": Known("(green - swir16) / (green + swir16)", 0.0),  # open water, towns left out; Xu 2006, IJRS 27:3025
    "ndvi": Known("(nir - red) / (nir + red)", 0.4),  # green plants; Rouse et al. 1974, NASA SP-351
    "ndbi": Known("(swir16 - nir) / (swir16 + nir)", 0.0),  # built ground; Zha et al. 2003, IJRS 24:583
}
_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}  # fmt: skip
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {"abs": abs, "sqrt": lambda value: value**0.5}
_ALLOWED = f"give {', '.join(KNOWN)}, or arithmetic on bands, e.g. index:(green - nir) / (green + nir)"


@dataclass(frozen=True)
class Index:
    """Arithmetic on bands, with a scale. Made by `parse_index`.

    bands: names, in the order of their first use.
    centre: value at which the probability is 0.5.
    steepness: logits a unit of the index; below 0 the class lies under the centre.
    """

    formula: str
    bands: tuple[str, ...]
    centre: float
    steepness: float

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Return the index of arrays or tensors, one for each of `bands`."""
        return _value(ast.parse(self.formula, mode="eval").body, values)


def parse_index(name: str) -> Index:
    """Read `index:EXPRESSION`, or `index:EXPRESSION@CENTRE,STEEPNESS`.

    Raises:
        WeightsError: it is no arithmetic on bands, or the scale is not two numbers.
    """
    text, at, scale = name.removeprefix(PREFIX).strip().partition("@")
    known = KNOWN.get(text.strip().lower())
    formula = (text if known is None else known.formula).strip()
    if len(formula) > LONGEST:
        raise WeightsError(f"{name[:60]}... is longer than {LONGEST} characters; give a shorter expression")
    try:
        tree = ast.parse(formula, mode="eval").body
        names = tuple(dict.fromkeys(_names(tree)))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = "no arithmetic" if not isinstance(error, ValueError) or not error.args else str(error.args[0])
        raise WeightsError(f"{name!r} cannot be used: {reason}; {_ALLOWED}") from error
    if not names:
        raise WeightsError(f"{name!r} looks at no band; {_ALLOWED}")
    own = (0.0 if known is None else known.centre, STEEPNESS)
    index = Index(formula, names, *(_scale(name, scale, own[1]) if at else own))
    try:  # numbers among themselves are no arrays, and may overflow or have no real root
        with np.errstate(all="ignore"):
            value = np.asarray(index(dict.fromkeys(names, np.ones(1))))
    except ArithmeticError as error:
        raise WeightsError(f"{name!r} cannot be used: {error}; {_ALLOWED}") from error
    if np.iscomplexobj(value):
        raise WeightsError(f"{name!r} cannot be used: it has a root of a negative number; {_ALLOWED}")
    return index


def _scale(name: str, text: str, steepness: float) -> tuple[float, float]:
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(map(isfinite, numbers)) or numbers[1:] == [0]:
        raise WeightsError(f"{name!r} has the scale {text!r}; give centre and steepness, e.g. index:ndwi@0.05,20")
    return numbers[0], numbers[1] if numbers[1:] else steepness


def _names(node: ast.expr) -> list[str]:
    """Bands of an expression in order; `ValueError` where it is more than arithmetic."""
    match node:
        case ast.Name(id=name):
            return [name]
        case ast.Constant(value=bool() | str() | bytes() | complex() | None):
            raise ValueError(f"{ast.unparse(node)} is no number")
        case ast.Constant(value=int() | float()):
            return []
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int() | float() as power)) if abs(power) <= 8:
            return _names(left)
        case ast.BinOp(op=ast.Pow()):
            raise ValueError("a power must be a number up to 8")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _names(left) + _names(right)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _names(operand)
        case ast.Call(func=ast.Name(id=function), args=[inner], keywords=[]) if function in _FUNCTIONS:
            return _names(inner)
    raise ValueError(f"{ast.unparse(node)[:60]!r} is no arithmetic on bands")


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    """The value of an expression that `_names` has checked."""
    match node:
        case ast.Name(id=name):
            return values[name]
        case ast.Constant(value=number):
            return float(number)  # type: ignore[arg-type]
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, values), _value(right, values))
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](_value(operand, values))
        case ast.Call(func=ast.Name(id=function), args=[inner]):
            return _FUNCTIONS[function](_value(inner, values))
    raise AssertionError("checked by `_names`")
