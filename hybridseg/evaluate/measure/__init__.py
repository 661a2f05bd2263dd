"""The metrics: geometries in metres or arrays in, numbers out; no files, no report.

Objects (`objects`, `ranking`, `verdicts`, `scores`), pixels (`pixels`), outlines (`boundary`, `near`), roads (`roads`),
intervals of any of them (`bootstrap`), and the few that a search needs, of layers in any CRS (`quick`).
"""
