"""`cm3leon report`."""

from __future__ import annotations


def report(directory: str) -> None:
    """Writes DIRECTORY/report.html about the run in DIRECTORY: one page that needs no other file and no network."""
    from cm3leon_jax.evaluation.report import write_report

    print(f"report: {write_report(directory)}")
