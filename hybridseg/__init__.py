"""Overhead imagery to labelled maps: a classifier says what, SAM2 says where, exactly."""

from hybridseg.errors import HybridsegError
from hybridseg.run.extract import extract

__all__ = ["HybridsegError", "extract"]
__version__ = "0.1.0"
