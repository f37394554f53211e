"""Data for people to look at: sequences as readable text, and pages about tasks, prepared folders and memory banks."""
