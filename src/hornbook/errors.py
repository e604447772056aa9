"""The one exception a user is meant to see."""


class HornbookError(Exception):
    """Something the user can act on.

    The message is one or two sentences: what went wrong, where, and what to do.
    The command line prints it without a traceback and exits with status 1.
    """
