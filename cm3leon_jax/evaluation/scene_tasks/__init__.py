"""Exact scores of the tasks of `data/scenes/tasks`: what a model drew or wrote, counted against what is true."""

SCORES_FILE, GALLERY = "scores.json", "gallery"  # of the suite `scene_tasks`, for the report
