"""Measurements: `make scores` and `make bench`. Figures go to results/."""
