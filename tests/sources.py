"""Reading a whole split, for the tests of all sources."""

from cm3leon_jax.data.sources import BadExample


def read_all(split):
    """-> ({id: example}, {id: reason})."""
    good, bad = {}, {}
    for index in range(len(split)):
        try:
            example = split[index]
            good[example.id] = example
        except BadExample as error:
            bad[error.id] = error.reason
    return good, bad
