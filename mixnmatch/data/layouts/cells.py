"""The rows of a CSV or Parquet file, whatever they mean."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mixnmatch.data.info import one_line
from mixnmatch.data.places import Place
from mixnmatch.errors import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
_DELIMITERS = ",;\t"
_HEAD_BYTES = 2**16
_ERRORS = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, csv.Error)
# What pyarrow and Python's own reader raise for malformed bytes.


class Row(NamedTuple):
    """A row of a table."""

    where: str
    """Line or row, counted from 1, for messages."""
    cells: Sequence[Any]
    """In the order of the columns that were asked for; texts where the file is CSV."""
    problem: str | None = None
    """Why it cannot be understood; cells that are not there are None."""


def read_header(place: Place, path: str) -> list[str]:
    """The names of a table's columns, without reading the rest.

    Raises:
        DataError: If it is no such table.
    """
    if _is_parquet(path):
        with _errors(place, path), pq.ParquetFile(place.open(path)) as file:
            return [str(name) for name in file.schema_arrow.names]
    with place.open(path) as file:
        head = bytes(file.read(_HEAD_BYTES))
    whole = head[: head.rfind(b"\n") + 1] or head  # lines
    with _errors(place, path):
        return _header(_reader(whole))


def read_rows(place: Place, path: str, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a table, in their order; empty ones are passed over.

    Args:
        place: Where it is.
        path: Of a ``.parquet`` file, or of UTF-8 text with commas, semicolons or tabs, whichever
            gives the header the most columns.
        columns: Names of the header, of which the cells are wanted.

    Raises:
        DataError: If it is no such table, or damaged.
    """
    with _errors(place, path):
        if _is_parquet(path):
            yield from _parquet_rows(place, path, columns)
        else:
            yield from _text_rows(place.read(path), columns)


def _parquet_rows(place: Place, path: str, columns: Sequence[str]) -> Iterator[Row]:
    number = 0
    with pq.ParquetFile(place.open(path)) as file:
        for batch in file.iter_batches(columns=list(columns)):
            cells = [batch.column(name).to_pylist() for name in columns]
            for values in zip(*cells, strict=True):
                number += 1
                if any(value is not None for value in values):
                    yield Row(f"row {number}", values)


def _text_rows(content: bytes, columns: Sequence[str]) -> Iterator[Row]:
    reader = _reader(content)
    header = _header(reader)
    wanted = [header.index(name) for name in columns]
    for cells in _rows(reader):
        problem = None
        if len(cells) != len(header):
            problem = f"{len(cells)} columns where the header has {len(header)}"
        padded = [*cells, *[None] * (len(header) - len(cells))]
        yield Row(f"line {reader.line_num}", [padded[index] for index in wanted], problem)


def _reader(content: bytes) -> Any:
    text = content.decode("utf-8-sig")
    lines = io.StringIO(text, newline=None)  # which knows all three ends of lines
    first = next((line for line in lines if line.strip(f"{_DELIMITERS} \n")), "")
    counts = {sign: len(next(csv.reader([first], delimiter=sign), ())) for sign in _DELIMITERS}
    sign = max(counts, key=counts.__getitem__)  # the first of equals
    return csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=True)


def _header(reader: Any) -> list[str]:
    return [name.strip() for name in next(_rows(reader), [])]


def _rows(reader: Any) -> Iterator[list[str]]:
    try:
        yield from (cells for cells in reader if any(cell.strip() for cell in cells))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


@contextmanager
def _errors(place: Place, path: str) -> Iterator[None]:
    form = "Parquet" if _is_parquet(path) else "CSV in UTF-8"
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{place.full(path)}: no such file") from error
    except _ERRORS as error:
        raise DataError(
            f"{place.full(path)}: not {form}, or damaged ({one_line(error)})"
        ) from error


def _is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")
