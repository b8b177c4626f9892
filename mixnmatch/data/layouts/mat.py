"""MATLAB files, read by scipy in a process of its own.

scipy's reader is compiled code that trusts its input: some damaged files do not raise but end the
process. As a child it takes nothing with it, and what it gives back is JSON.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mixnmatch.data.info import one_line
from mixnmatch.errors import DataError

if TYPE_CHECKING:  # as the child needs none of it
    from mixnmatch.data.places import Place

Variables = dict[str, list[Any]]
"""Elements of variables, by their names."""
_MOST_SECONDS = 120
_MOST_MEMORY_BYTES = 8 * 2**30
_HDF5 = (b"MATLAB 7.3", b"\x89HDF")
_SHOWN_CHARACTERS = 200


def read_mat(place: "Place", path: str, names: Sequence[str]) -> Variables:
    """Read variables of a MATLAB file of version 4 to 7.

    Args:
        place: Where it is.
        path: Of the file.
        names: Of the variables.

    Returns:
        Those of the variables that are there, as lists of their elements in MATLAB's order.
        Structures are dictionaries, numbers and text are themselves, anything else is None.

    Raises:
        DataError: If there is no such file, or it is damaged, of version 7.3 or no MATLAB file.
        OSError: If it cannot be read.
    """
    content = place.read(path)
    name = place.full(path)
    if content.startswith(_HDF5):
        raise DataError(f"{name}: a MATLAB 7.3 file; save it with -v7")
    found, problem = _read_in_child(content, names)
    if problem is not None:
        raise DataError(f"{name}: not a MATLAB file that can be read ({problem})")
    return found


def _read_in_child(content: bytes, names: Sequence[str]) -> tuple[Variables, str | None]:
    """``_read_here``, whatever becomes of it."""
    try:
        child = subprocess.run(
            [sys.executable, "-m", __name__, *names],
            input=content,
            capture_output=True,
            timeout=_MOST_SECONDS,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            check=False,
        )
        found, problem = json.loads(child.stdout)
    except subprocess.TimeoutExpired:
        return {}, f"its reader was ended after {_MOST_SECONDS} seconds"
    except ValueError:
        return {}, f"its reader ended with status {child.returncode}"
    return found, problem


def _read_here(content: bytes, names: Sequence[str]) -> tuple[Variables, str | None]:
    """The variables, or what is wrong."""
    import io
    import warnings

    from scipy.io import loadmat

    try:
        with warnings.catch_warnings(action="ignore"):  # scipy's, of odd variables
            found = loadmat(io.BytesIO(content), squeeze_me=True, variable_names=list(names))
        plain = {name: _plain(found[name]) for name in names if name in found}
    except Exception as error:  # scipy promises nothing of what it raises for damaged bytes
        return {}, f"{type(error).__name__}: {one_line(error)[:_SHOWN_CHARACTERS]}"
    return {k: value if isinstance(value, list) else [value] for k, value in plain.items()}, None


def _plain(value: Any) -> Any:
    import numpy as np

    if isinstance(value, np.ndarray):
        return [_plain(item) for item in np.atleast_1d(value).ravel(order="F")]
    if isinstance(value, np.void):
        return {name: _plain(value[name]) for name in value.dtype.names or ()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return value.encode(errors="replace").decode()  # half characters can be stored nowhere
    return value if isinstance(value, int | float) else None


def _limit_resources() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = _MOST_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, _MOST_MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _limit_resources()
    print(json.dumps(_read_here(sys.stdin.buffer.read(), sys.argv[1:])))
