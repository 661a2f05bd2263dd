"""A user's own classifier from a user's own labels."""
