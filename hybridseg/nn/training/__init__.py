"""What is optimised, and how: the only place that imports Lightning and scikit-learn."""
