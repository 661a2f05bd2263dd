"""The verb `train`: labelled scenes, samples, recipes."""
