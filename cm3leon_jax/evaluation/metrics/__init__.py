"""The metrics of CM3Leon's tables, as functions of texts, scores and ranks; nothing here reads data or runs a model.

Each gives `Score`s: what every example contributes, the value over all of them, and its bootstrap interval.
"""
