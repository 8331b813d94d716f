"""What can go wrong, with the exit code and the HTTP status that it maps to.

Each message is one sentence that says what is wrong and what to do about it. They are raised anywhere
and caught once, at the edge.
"""


class FishError(Exception):
    """The base of every error that is the user's to see: without a traceback, as one line."""

    exit_code = 1
    status = 500


class InputError(FishError):
    """A file, text or reference that cannot be used: unreadable, of the wrong shape, empty, too long."""

    status = 400


class SettingError(FishError):
    """An option, value or setting that is out of its range or contradicts another one."""

    exit_code = 2
    status = 400


class ModelMissing(FishError):
    """A model that was named and is not there."""

    exit_code = 3
    status = 404


class AuthError(FishError):
    """A hub or server that refuses the credentials it was given."""

    exit_code = 4
    status = 401


class NetworkError(FishError):
    """A hub or server that cannot be reached or does not answer as it should."""

    exit_code = 5
    status = 502
