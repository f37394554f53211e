"""Exit statuses, and the one exception that means "the input is wrong, here is what to do"."""

from __future__ import annotations

EXIT_FINISHED = 0
EXIT_USER_ERROR = 2
EXIT_START_AGAIN = 42  # preempted or stopped by the watchdog: a launcher starts the same command again


class UserError(Exception):
    """Input that cannot be used. The message is one line: what is wrong, and what to do about it."""


def check_at_least(least: int, **options: int) -> None:
    """`UserError` where an option of a command is below `least`."""
    for name, value in options.items():
        if value < least:
            raise UserError(f"--{name} is {value}; it must be {least} or more")


class StartAgain(Exception):
    """The work was interrupted with its state saved; the same command continues it (exit status 42)."""
