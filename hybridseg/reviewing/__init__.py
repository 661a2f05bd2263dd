"""The verbs `review` and `serve`: a person checks and corrects a map by clicking; see docs/review.md."""
