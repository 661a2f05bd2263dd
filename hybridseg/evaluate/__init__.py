"""How good a map is against a reference, whoever made them: `run.evaluate` measures everything.

`align` brings the two sides together, `measure` holds the metrics, `show` draws what was found. Between them: `sums`,
what each block of ground holds; `polygons` and `networks`, all figures of a comparison; `report`, the value that holds
them. Imports run measure <- align <- sums <- polygons <- networks <- run, and `verb` joins `run` with `show`.
"""
