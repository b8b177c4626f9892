"""Reading the file that tells of one picture."""

from mixnmatch.data.info import one_line
from mixnmatch.data.places import Place
from mixnmatch.errors import DataError, RunError


def read_label(place: Place, path: str) -> bytes:
    """The content of a file that was there when the files were listed.

    Only what is wrong with the file itself leaves out its picture: a disk that fails, or a source
    that goes away, would make all pictures bad ones.

    Raises:
        ValueError: If it may not be read; the message does not name it.
        RunError: If it is gone, or the machine fails.
    """
    try:
        return place.read(path)
    except PermissionError as error:
        raise ValueError(f"cannot be read ({one_line(error)})") from error
    except DataError as error:
        raise RunError(f"{one_line(error)}, but it was there when the work began") from error
    except OSError as error:
        raise RunError(f"{place.full(path)}: cannot be read ({one_line(error)})") from error
