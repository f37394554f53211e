"""Text <-> ids and image <-> codes."""
