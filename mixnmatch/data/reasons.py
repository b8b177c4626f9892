"""Kinds of rejects and of remarks: what several of them have in common."""

import re

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?(?:e[-+]?\d+)?|\bnan\b|\binf\b)")
_AMOUNTS = re.compile(r"\((?:…[, ]*)+\)")
_DETAIL = re.compile(r"\s*\([^()]*\)$")


def kind_of(text: str, source: str = "") -> str:
    """A reason or a remark without what differs from picture to picture.

    The name of the picture, quoted values, numbers, a detail in brackets at the end, and what
    follows a colon are left out.

    Args:
        text: In one line.
        source: The picture that it is about.
    """
    if source:
        text = text.rpartition(f"{source}: ")[2]
    kind = _AMOUNTS.sub("(…)", _NUMBER.sub("…", _QUOTED.sub("…", text)))
    kind = _DETAIL.sub("", kind.partition(": ")[0].strip())
    return kind or text
