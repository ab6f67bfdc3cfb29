"""Errors that a user caused, and their report in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """An error that the user can mend; its message is one line."""

    status = 2

    def __init__(self, message: object):
        super().__init__(" ".join(str(message).split()))


@contextmanager
def users_mistake(*kinds: type[Exception]) -> Iterator[None]:
    """Return a context in which errors of these kinds become a :class:`UserError`."""
    try:
        yield
    except kinds as error:
        raise UserError(error) from error
