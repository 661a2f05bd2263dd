"""The verb `tune`: a theme's thresholds and gate by search on labelled scenes."""
