"""What can go wrong in a way that a user can mend.

    HybridsegError
    ├── SourceError        the raster cannot be used
    │   ├── NoGeoreference
    │   ├── BandsMissing
    │   ├── TooCoarse
    │   ├── EmptySource
    │   └── SourceUnavailable
    ├── LayerError         a vector layer cannot be read
    ├── ThemeError         a theme, recipe or setting is wrong
    ├── PromptsError       a prompts file cannot be used
    ├── OutputError        the result cannot be written where asked
    ├── WeightsError       a model cannot be found or does not fit
    ├── RunError           every window failed, so there is no result
    ├── EvaluateError      two maps cannot be compared
    ├── ReviewError        a review cannot be opened, or an action makes no sense
    └── MissingExtra       an optional dependency is not installed

Every message is one line: what came, what is allowed, what to do.
"""


class HybridsegError(Exception):
    """Base of all errors that the command line prints as one line (exit status 2)."""


class SourceError(HybridsegError):
    """The raster cannot be opened or read."""


class NoGeoreference(SourceError):
    """The raster has no CRS or no geotransform."""


class BandsMissing(SourceError):
    """The raster lacks the bands asked for, or they must be chosen with --bands."""


class TooCoarse(SourceError):
    """The raster's ground sampling distance is beyond what the model can use."""


class EmptySource(SourceError):
    """The raster, or the extent asked for, holds no valid pixel."""


class SourceUnavailable(SourceError):
    """The raster cannot be reached for now: a timeout, a server that is busy. Trying again may help."""


class LayerError(HybridsegError):
    """A vector layer cannot be read, or has no geometry, rows or CRS."""


class ThemeError(HybridsegError):
    """A theme, a recipe or one of its settings is unknown or out of range."""


class PromptsError(HybridsegError):
    """A prompts file lacks columns or holds values that cannot be used."""


class OutputError(HybridsegError):
    """The result cannot be written: unknown suffix, missing folder, no permission."""


class WeightsError(HybridsegError):
    """A model's weights cannot be found, or do not fit the architecture they are meant for."""


class RunError(HybridsegError):
    """A run whose windows all failed, so there is nothing to write."""


class EvaluateError(HybridsegError):
    """A map and its reference cannot be compared."""


class ReviewError(HybridsegError):
    """A review file cannot be opened, or what was asked of it makes no sense."""


class MissingExtra(HybridsegError):
    """An optional dependency is needed; the message names the extra to install."""


class HybridsegWarning(UserWarning):
    """Something was repaired or left out; the command line prints it as one line."""
