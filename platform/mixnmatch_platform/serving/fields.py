"""The fields of requests: what they mean, how they are read from forms and JSON, and described."""

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationError,
    WithJsonSchema,
)
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from mixnmatch.errors import InputError
from mixnmatch_platform.serving.limits import Limits

__all__ = ["Animate", "Encode", "Mix", "Picture", "Vary", "description_of", "read_fields"]

FORM, JSON = "multipart/form-data", "application/json"
GALLERY = "gallery:"
LARGEST_SEED = 2**32 - 1
UTF_8 = (b"utf-8", b"utf8")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was sent, or named."""

    data: bytes | None = None
    """An encoded picture, or a film."""
    gallery: str | None = None
    """Id of a picture of the gallery."""


def _picture(value: object) -> object:
    if isinstance(value, bytes):
        return Picture(data=value)
    if not isinstance(value, str):
        raise ValueError("must be a file, base64 or gallery:ID")
    if value.startswith(GALLERY):
        return Picture(gallery=value.removeprefix(GALLERY))
    head, comma, encoded = value.partition(",")
    if comma and not (head.startswith("data:") and head.endswith(";base64")):
        raise ValueError("must be a file, base64 or gallery:ID")
    try:
        return Picture(data=base64.b64decode(encoded if comma else head, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError("must be a file, base64 or gallery:ID") from error


_SCHEMA = {"type": "string", "description": "a file, base64 (or a data URI of it) or gallery:ID"}
PictureField = Annotated[
    InstanceOf[Picture], BeforeValidator(_picture), WithJsonSchema(_SCHEMA, mode="validation")
]
Category = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mix(_Fields):
    """What is painted: a picture or a code for each factor; pose is taken from the shape's."""

    background: PictureField | None = None
    shape: PictureField | None = None
    texture: PictureField | None = None
    pose: PictureField | None = None
    mode: Literal["code", "feature"] = "code"
    sketch: bool = Field(False, description="the shape picture is a drawing: dark lines on white")
    background_code: Category | None = None
    shape_code: Category | None = Field(None, description="in code mode only")
    texture_code: Category | None = None
    pose_seed: Seed | None = Field(None, description="a pose from N(0, I); in code mode only")


class Vary(Mix):
    """One mix with many values of one factor."""

    factor: Literal["background", "pose", "shape", "texture"]
    count: int = Field(ge=1, description="of the pictures")
    start: Seed = Field(0, description="first category or pose seed")


class Encode(_Fields):
    """Pictures whose codes are wanted."""

    picture: list[PictureField] = Field(min_length=1)


class Animate(_Fields):
    """A film that gives pose and shape, and pictures that give the rest."""

    driving: PictureField
    background: PictureField
    texture: PictureField
    mode: Literal["code", "feature"] | None = Field(
        None, description="feature, where the model can"
    )


Read = TypeVar("Read", bound=_Fields)


async def read_fields(request: Request, kind: type[Read], limits: Limits) -> Read:
    """The fields of a request's form or JSON, checked.

    Raises:
        InputError: If they are not those of the request, or a value is wrong.
        HTTPException: If the body is neither a form nor JSON, or damaged.
    """
    header = request.headers.get("content-type", "")
    content = header.partition(";")[0].strip().lower()
    charset = parse_options_header(header)[1].get(b"charset", UTF_8[0])
    if content == FORM and charset.lower() not in UTF_8:  # Python has some that take hours
        raise HTTPException(415, f"charset is {charset.decode('latin-1')[:40]!r}: send UTF-8")
    if content == JSON:
        body = await request.body()
        # Aside, because pictures of 50 MB as text would hold up other requests.
        return await asyncio.to_thread(lambda: _checked(_object(body), kind, limits))
    if content in (FORM, "application/x-www-form-urlencoded"):
        return _checked(await _form(request, kind, limits), kind, limits)
    raise HTTPException(415, f"content type is {content or 'not given'!r}: send {FORM} or JSON")


def description_of(kind: type[_Fields]) -> dict[str, Any]:
    """The body of a request, for OpenAPI."""
    schema = kind.model_json_schema(mode="validation")
    return {
        "requestBody": {
            "required": True,
            "content": {FORM: {"schema": schema}, JSON: {"schema": schema}},
        }
    }


def _checked(values: dict[str, Any], kind: type[Read], limits: Limits) -> Read:
    # Pydantic makes an error of each of a million fields, or pictures, that are wrong.
    known = kind.model_fields
    if (unknown := next((name for name in values if name not in known), None)) is not None:
        raise InputError(f"there is no field {unknown[:60]!r}: known are {', '.join(known)}")
    if kind is Encode and "picture" in values:
        if not isinstance(values["picture"], list):
            values["picture"] = [values["picture"]]
        if (count := len(values["picture"])) > limits.count:
            raise InputError(f"{count} pictures: at most {limits.count} are encoded at once")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(_line(error)) from error


def _object(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is no JSON ({error})") from error
    if not isinstance(values, dict):
        raise HTTPException(400, f"the body is a JSON {type(values).__name__}: send an object")
    return values


async def _form(request: Request, kind: type[_Fields], limits: Limits) -> dict[str, Any]:
    values: dict[str, Any] = {}
    try:
        async with request.form(
            max_files=limits.parts, max_fields=limits.parts, max_part_size=limits.film_bytes
        ) as form:
            for name, part in form.multi_items():
                value = await part.read() if isinstance(part, UploadFile) else part
                if not value:  # as browsers send what was left empty
                    continue
                if kind is Encode and name == "picture":
                    values.setdefault(name, []).append(value)
                elif name in values:
                    raise InputError(f"{name[:40]} is given twice")
                else:
                    values[name] = value
    except (FormParserError, UnicodeError, KeyError) as error:
        raise HTTPException(400, f"the form is damaged ({error})") from error
    return values


def _line(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"])[:60]
    if first["type"] == "missing":
        return f"{field} is missing"
    reason = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    given = first["input"]
    shown = "" if isinstance(given, bytes | list | Mapping) else f" {str(given)[:40]!r}"
    return f"{field} is{shown or ' wrong'}: {reason[:1].lower()}{reason[1:]}"
