"""What can go wrong, as messages for people: what, where, what to do next.

The command line prints these without a traceback and exits with `exit_code`; anything else that
escapes is a defect of this project.
"""


class PipelineError(Exception):
    """The run failed (exit code 1). `hint` is the next step, if there is one to name."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\nhint: {self.hint}" if self.hint else message


class UsageError(PipelineError, ValueError):
    """The plan, an option or an input file is wrong (exit code 2); nothing has been run."""

    exit_code = 2


class DataError(PipelineError, ValueError):
    """Data on disk is not what its manifest or its format says."""


class ModelError(PipelineError):
    """A model cannot be found, loaded or run on this machine."""


class BusyError(PipelineError):
    """Another process is writing to the same run."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM: not an `Exception`, so that no library's `except Exception` swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"signal {signum}")
        self.exit_code = 128 + signum
