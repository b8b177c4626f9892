"""The exception tree of the project.

* MixNMatchError
  * InputError      what the user gave cannot be used; command lines exit with 2
    * ConfigError   a configuration key or value
    * DataError     a picture, a box or a data set
    * ModelError    a checkpoint or a model bundle
  * RunError        work that began and failed; command lines exit with 1
    * DivergenceError   training whose losses are no numbers any more
  * Stopped         work that was asked to end early, and has saved what it had; exit with 143

Every message is one line that names the thing, its value and what would be right.
"""

import re

_USER_AND_PASSWORD = re.compile(r"://[^@/\s]*@")


class MixNMatchError(Exception):
    """Base of all errors that this project raises on purpose."""

    exit_status = 1


class InputError(MixNMatchError):
    """What the user gave cannot be used."""

    exit_status = 2


class ConfigError(InputError):
    """A configuration key or value is wrong."""


class DataError(InputError):
    """A picture, a box or a data set is wrong."""


class ModelError(InputError):
    """A checkpoint or a model bundle is wrong."""


class RunError(MixNMatchError):
    """Work that began could not be finished."""


class DivergenceError(RunError):
    """A training's losses are no numbers any more: its settings are to blame."""


class Stopped(MixNMatchError):  # noqa: N818  it is no error, but ends work as one does
    """Work that was asked to end before its end; what it had done is saved."""

    exit_status = 143  # as of a process that SIGTERM ended


def without_passwords(text: str) -> str:
    """A text to show, in which addresses have lost their user and password."""
    return _USER_AND_PASSWORD.sub("://…@", text)
