"""Models that travel: to and from the formats of other software."""
