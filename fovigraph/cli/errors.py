"""Mistakes of users, as against those of the program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake that the user can mend; its message is one line."""

    status = 2

    def __init__(self, message: object):
        super().__init__(" ".join(str(message).split()))


@contextmanager
def users_mistake(*kinds: type[Exception]) -> Iterator[None]:
    """Within this, errors of these kinds are the user's."""
    try:
        yield
    except kinds as error:
        raise UserError(error) from error
