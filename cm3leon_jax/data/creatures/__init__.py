"""A world of named creatures: what a name looks like can only be known by having seen it, or by looking it up."""
