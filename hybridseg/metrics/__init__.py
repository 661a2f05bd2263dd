"""Metrics on arrays of geometries, counts and scores: pure functions that read no file and know no report.

`pred` is what a map holds, `truth` what the reference holds. Geometries are shapely's, in a CRS in metres.
"""
