"""Two sides on one footing: read (`layers`, `rasters`), in true metres (`metric`), on the same ground (`ground`).

`compare` does it all: files or tables in, a `Comparison` out.
"""
