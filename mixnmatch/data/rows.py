"""A record as one Parquet row, and back; the row's bytes for the fingerprint."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import pyarrow as pa

from mixnmatch.data.records import Box, Factors, Part, Record

PICTURE_COLUMNS = ("image", "mask")
"""The heavy columns, read only when a picture is asked for."""

_PART = pa.struct(
    [pa.field("part", pa.int32()), pa.field("x", pa.float32()), pa.field("y", pa.float32())]
)

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("box_x", pa.float32(), nullable=False),
        pa.field("box_y", pa.float32(), nullable=False),
        pa.field("box_width", pa.float32(), nullable=False),
        pa.field("box_height", pa.float32(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("class_name", pa.string()),
        pa.field("split", pa.string()),
        pa.field("remarks", pa.list_(pa.string()), nullable=False),
        pa.field("parts", pa.list_(_PART), nullable=False),
        pa.field("mask", pa.binary()),
        pa.field("background", pa.int32()),
        pa.field("shape", pa.int32()),
        pa.field("texture", pa.int32()),
        pa.field("pose", pa.int32()),
        pa.field("position_x", pa.float32()),
        pa.field("position_y", pa.float32()),
        pa.field("scale", pa.float32()),
        pa.field("rotation", pa.float32()),
        pa.field("mirrored", pa.bool_()),
    ]
)
"""Columns of every shard; a data set without factors has nulls there.

``sha256`` is that of ``image``, in hexadecimal: rows with the same one show the same picture.
"""

_BOX = ("box_x", "box_y", "box_width", "box_height")
_FACTORS = tuple(Factors.__dataclass_fields__)
_FLOATS = frozenset(field.name for field in SCHEMA if field.type == pa.float32())


def to_row(record: Record) -> dict[str, Any]:
    """The record as a dictionary of the columns of ``SCHEMA``."""
    factors = record.factors and asdict(record.factors)
    row = dict(zip(_BOX, record.box, strict=True)) | (factors or dict.fromkeys(_FACTORS))
    row["sha256"] = hashlib.sha256(record.image).hexdigest()
    row["remarks"] = list(record.remarks)
    row["parts"] = [part._asdict() for part in record.parts]
    for name in SCHEMA.names:
        if name not in row:
            row[name] = getattr(record, name)
    return row


def from_row(row: Mapping[str, Any]) -> Record:
    """The record of a dictionary of the columns of ``SCHEMA``."""
    known = row["background"] is not None
    derived = (*_BOX, *_FACTORS, "sha256", "remarks", "parts")
    plain = {name: row[name] for name in SCHEMA.names if name not in derived}
    return Record(
        **cast(dict[str, Any], plain),
        remarks=tuple(row["remarks"]),
        parts=tuple(Part(**part) for part in row["parts"]),
        box=Box(*(row[name] for name in _BOX)),
        factors=Factors(**{name: row[name] for name in _FACTORS}) if known else None,
    )


def row_digest(row: Mapping[str, Any]) -> bytes:
    """SHA-256 of everything that the row says, whatever the order of its keys."""
    plain = {
        # As stored: a float64 that rounds to the same float32 is the same content.
        name: float(np.float32(row[name]))
        if name in _FLOATS and row[name] is not None
        else row[name]
        for name in SCHEMA.names
        if name not in PICTURE_COLUMNS
    }
    plain["parts"] = [
        [part["part"], float(np.float32(part["x"])), float(np.float32(part["y"]))]
        for part in row["parts"]
    ]
    plain |= {f"{name}_bytes": len(row[name] or b"") for name in PICTURE_COLUMNS}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in PICTURE_COLUMNS:
        digest.update(b"\n" + (row[name] or b""))
    return digest.digest()
