"""The exceptions of the package, with the exit code and the HTTP status of each.

    FishError             1  500
      InputError          1  400
      SettingError        2  400
      ModelMissing        3  404
      AuthError           4  401
      NetworkError        5  502
      EngineClosed        1  503

A message says what is wrong and how to fix it, in one or two sentences. It names the fields of a request and the
settings, never an option of the command line: the command line adds its own hint for `field`.
"""


class FishError(Exception):
    """The base of all errors that are shown to the user, without a traceback.

    `field` is the field of a request or the setting that the error is about, such as `codec_path`; empty if none.
    """

    exit_code = 1
    status = 500

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class InputError(FishError):
    """A file, text or reference cannot be used: unreadable, of the wrong shape, empty or too long."""

    status = 400


class SettingError(FishError):
    """A setting or a field of a request is out of range, or contradicts another one."""

    exit_code = 2
    status = 400


class ModelMissing(FishError):
    """A named model does not exist, or its download is incomplete."""

    exit_code = 3
    status = 404


class AuthError(FishError):
    """A hub or server rejected the credentials."""

    exit_code = 4
    status = 401


class NetworkError(FishError):
    """A hub or server cannot be reached, or sends an invalid answer."""

    exit_code = 5
    status = 502


class EngineClosed(FishError):
    """The engine was closed, its model thread has died, or the process was forked since it was loaded."""

    status = 503


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, of the machine or the device, has run out."""
    return isinstance(error, MemoryError) or "allocate" in str(error) or "out of memory" in str(error)  # torch's words
