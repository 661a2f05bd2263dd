"""How good a map is against a reference, whoever made them: `run.evaluate` measures everything.

What it measures with: objects (`objects`, `ranking`, `verdicts`, `scores`), pixels (`pixels`), outlines (`boundary`,
`near`), roads (`roads`), intervals (`bootstrap`). What it reads: `layers`, `rasters`; and brings together: `compare`,
`ground`, `metric`. What shows it: `picture` draws outlines over a scene; `html`, with `charts` and `worst`, makes the
report.
"""
