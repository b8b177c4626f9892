"""Training of both stages."""
