"""Classifiers: the networks and heads behind a heatmap."""
