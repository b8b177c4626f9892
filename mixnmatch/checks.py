"""The check of one setting, and the words in which it is refused."""

from mixnmatch.errors import ConfigError


def require(condition: bool, name: str, value: object, right: str) -> None:
    """Refuse a setting that does not meet a condition.

    Args:
        condition: Whether the value is right.
        name: The setting, as a user writes it.
        value: Its value.
        right: What it must be, for instance ``at least 1``.

    Raises:
        ConfigError: If it is not.
    """
    if not condition:
        raise ConfigError(f"{name} is {value!r}: it must be {right}")
