"""The verb `train`: data sets, samples, recipes."""
