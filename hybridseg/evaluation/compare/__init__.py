"""Both sides of a comparison made comparable: read, in one CRS in true metres, on one area, with the same classes."""
