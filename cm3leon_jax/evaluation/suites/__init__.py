"""Evaluation on data sets that the user names: the figures of CM3Leon's tables, a suite for each kind of them."""
