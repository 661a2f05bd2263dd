"""Reading: imagery becomes a `Scene`, which gives chips on any grid; vector files become layers.

Imports run paths, ground, tiles, stretch, resample <- describe, fingerprint <- stored <- raster, array <- scene;
`vectors` stands beside them.
"""
