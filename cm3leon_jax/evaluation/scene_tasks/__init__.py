"""Exact scores of the tasks of `data/scenes/tasks`: what a model drew or wrote, counted against what is true."""
