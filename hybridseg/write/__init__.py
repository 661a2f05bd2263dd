"""Results to files: whole or not at all, with their provenance inside."""
