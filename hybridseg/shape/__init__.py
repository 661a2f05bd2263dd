"""From exact outlines to map features: overlaps (`join`), right angles (`buildings`), ground areas (`measure`)."""
