"""The reading side: a raster becomes a `Source`, a `Source` gives chips on any grid.

Imports run ground, stretch, resample <- describe <- source <- grid; `windows` stands alone.
"""
