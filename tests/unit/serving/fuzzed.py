"""Requests as nobody should send them: damaged pictures, forms and JSON, by number."""

import base64
import io
import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from PIL import Image

MIXED = ("background", "shape", "texture")
ROUTES = {
    "/mix": MIXED,
    "/vary": MIXED,
    "/encode": ("picture",),
    "/animate": ("driving", "background", "texture"),
}
"""With the pictures that each needs."""
FIELDS = ("background", "shape", "texture", "pose", "driving", "picture")
KINDS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
ODD = (
    None,
    True,
    -1,
    2**70,
    1e308,
    "",
    "\x00",
    "gallery:",
    "gallery:../x",
    "gallery:\ud800",
    [],
    {},
    "data:,",
    "é" * 99,
)


class Fuzzed(NamedTuple):
    """One request."""

    route: str
    parts: Mapping[str, Any]
    """As ``requests`` takes them."""


def request(number: int) -> Fuzzed:
    """The same request for the same number."""
    dice = random.Random(number)
    make = dice.choice((_pictures, _pictures, _json, _form_damaged, _values, _odd_picture))
    route = dice.choice(sorted(ROUTES))
    return Fuzzed(route, make(dice, route))


def _pictures(dice: random.Random, route: str) -> dict[str, Any]:
    """A good form of pictures of which some are damaged, or no pictures."""
    wanted = ROUTES[route] if dice.random() < 0.8 else dice.sample(FIELDS, dice.randint(1, 4))
    files: dict[str, Any] = {name: (dice.choice(("a.png", "")), _damaged(dice)) for name in wanted}
    more = {"factor": (None, "shape"), "count": (None, "2")} if route == "/vary" else {}
    return {"files": files | more | (_texts(dice) if dice.random() < 0.5 else {})}


def _values(dice: random.Random, route: str) -> dict[str, Any]:
    """JSON with all fields that there are, of odd values."""
    names = (*FIELDS, "mode", "sketch", "texture_code", "pose_seed", "factor", "count", "start")
    wanted = dice.sample(names, dice.randint(1, 6))
    return {"json": {name: dice.choice(ODD) for name in wanted}}


def _odd_picture(dice: random.Random, route: str) -> dict[str, Any]:
    """JSON of pictures that are good, but for one of an odd value."""
    good = io.BytesIO()
    Image.effect_noise((40, 40), 80).save(good, "PNG")
    coded: dict[str, Any] = dict.fromkeys(ROUTES[route], base64.b64encode(good.getvalue()).decode())
    return {"json": coded | {dice.choice(ROUTES[route]): dice.choice(ODD)}}


def _json(dice: random.Random, route: str) -> dict[str, Any]:
    """JSON of pictures of which some are damaged, sometimes damaged itself."""
    coded = {name: base64.b64encode(_damaged(dice)).decode() for name in ROUTES[route]}
    if dice.random() < 0.5:
        more = {"factor": "texture", "count": 2} if route == "/vary" else {}
        return {"json": coded | more}
    text = bytearray(str(coded).replace("'", '"').encode())
    for _ in range(3):
        text[dice.randrange(len(text))] = dice.randrange(256)
    return {"data": bytes(text), "headers": {"content-type": "application/json"}}


def _form_damaged(dice: random.Random, route: str) -> dict[str, Any]:
    """A form with bytes changed, left out or cut off."""
    line = b'--edge\r\nContent-Disposition: form-data; name="background"; filename="a"\r\n\r\n'
    text = bytearray(line + _damaged(dice) + b"\r\n--edge--\r\n")
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(min(len(text), 120))
        text[place : place + dice.randint(0, 3)] = bytes(dice.choices(range(256), k=2))
    if dice.random() < 0.3:
        del text[dice.randrange(len(text)) :]
    edge = dice.choice(("edge", "edge", "edge", "other", "", '"', "é", "x" * 300))
    kind = f"multipart/form-data; boundary={edge}".encode().decode("latin-1")
    return {"data": bytes(text), "headers": {"content-type": kind}}


def _texts(dice: random.Random) -> dict[str, Any]:
    known = {
        "mode": ("code", "feature", "x"),
        "sketch": ("true", "x"),
        "shape_code": ("0", "-1", "x", "9" * 30),
        "factor": ("pose", "x"),
        "count": ("1", "0", "99999", "x"),
        "start": ("0", "99999", "-5"),
    }
    wanted = dice.sample(sorted(known), dice.randint(0, 3))
    return {name: (None, dice.choice(known[name])) for name in wanted}


def _damaged(dice: random.Random) -> bytes:
    """A small picture, mostly with something wrong with it, or none."""
    if dice.random() < 0.1:
        return dice.randbytes(dice.randint(1, 400))
    mode = dice.choice(("RGB", "L", "RGBA", "P", "1"))
    picture = Image.effect_noise((dice.randint(1, 60), dice.randint(1, 60)), 80).convert(mode)
    buffer = io.BytesIO()
    kind = dice.choice(KINDS)
    try:
        picture.save(buffer, kind)
    except (OSError, KeyError, ValueError):  # not every format has every mode
        picture.convert("RGB").save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    if dice.random() < 0.4:
        return bytes(data)
    for _ in range(dice.randint(0, 6)):
        # Heads say how large a picture is, and hold most of what decoders trust.
        reach = len(data) if dice.random() < 0.5 else min(len(data), 40)
        data[dice.randrange(reach)] = dice.randrange(256)
    if dice.random() < 0.3:
        del data[dice.randrange(1, len(data) + 1) :]
    return bytes(data) or b"\x00"
