"""Configurations as plain dictionaries and dotted keys, where unknown keys are refused.

A sweep or a command line can therefore never set what nothing reads.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from mixnmatch.errors import ConfigError

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as nested plain dictionaries, ready for JSON."""
    return dataclasses.asdict(config)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """A configuration as one level of dotted keys, ``{"stage1.lr": 2e-4, …}``."""
    flat: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{item.name}.")
        else:
            flat[prefix + item.name] = value
    return flat


def from_dict(kind: type[T], values: object, prefix: str = "") -> T:
    """Build a configuration from nested dictionaries.

    Args:
        kind: The configuration class.
        values: Its fields; those left out keep their defaults.
        prefix: Dotted path of ``values``, for messages.

    Raises:
        ConfigError: For an unknown key, a value of the wrong type, or one out of range.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{prefix.rstrip('.') or 'configuration'} is {values!r}: it must be a table of keys"
        )
    hints = typing.get_type_hints(kind)
    unknown = [key for key in values if key not in hints]
    if unknown:
        raise _unknown_key(f"{prefix}{unknown[0]}", [prefix + name for name in hints], kind)
    return kind(**{key: _convert(hints[key], value, prefix + key) for key, value in values.items()})


def override(config: T, changes: Mapping[str, Any]) -> T:
    """A copy of a configuration with some dotted keys changed at once.

    Args:
        config: Any configuration of ``mixnmatch.config``.
        changes: For instance ``{"stage1.lr": 1e-4}``.

    Raises:
        ConfigError: For an unknown key, a value of the wrong type, or one out of range.
    """
    nested = to_dict(config)
    for key, value in changes.items():
        *path, leaf = key.split(".")
        table: Any = nested
        for name in path:
            table = table.get(name) if isinstance(table, dict) else None
        if not isinstance(table, dict) or leaf not in table or isinstance(table[leaf], dict):
            raise _unknown_key(key, list(flatten(config)), type(config))
        table[leaf] = value
    return from_dict(type(config), nested)


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split a command-line ``key=value``; the value is read as a number, true, false, none or text.

    Raises:
        ConfigError: If there is no ``=``.
    """
    key, separator, raw = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"{text!r} is no setting: write key=value, for instance stage1.lr=1e-4")
    for convert in (int, float):
        try:
            return key, convert(raw)
        except ValueError:
            continue
    words = {"none": None, "null": None, "true": True, "false": False}
    return key, words.get(raw.lower(), raw)


def _unknown_key(key: str, known: list[str], kind: type[Any]) -> ConfigError:
    """The error for a key that is not there, with what may have been meant."""
    leaves = {name.rpartition(".")[2]: name for name in known}
    leaf = key.rpartition(".")[2]
    close = difflib.get_close_matches(key, known, n=3)
    close += [leaves[match] for match in difflib.get_close_matches(leaf, leaves, n=2, cutoff=0.8)]
    if close:
        hint = f"did you mean {' or '.join(dict.fromkeys(close))}?"
    else:
        section = key.partition(".")[0] + "."
        inside = [name for name in known if name.startswith(section)]
        hint = f"known are {', '.join(inside or [item.name for item in dataclasses.fields(kind)])}"
    return ConfigError(f"unknown configuration key {key}: {hint}")


def _convert(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type[Any], hint), value, f"{name}.")
    if isinstance(hint, types.UnionType):
        allowed = typing.get_args(hint)
        if value is None and types.NoneType in allowed:
            return None
        hint = next(option for option in allowed if option is not types.NoneType)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ConfigError(f"{name} is {value!r}: it must be smaller") from error
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{name} is {value!r}: it must be of type {hint.__name__}")
    return value
