"""HTML pages that need no other file and no network: their pieces, charts and style."""
