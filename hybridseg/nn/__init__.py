"""The only place that imports torch: trunk, segmenter, SAM2, weights, what is optimised."""
