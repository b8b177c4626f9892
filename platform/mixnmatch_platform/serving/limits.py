"""How much one request may ask for."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of requests; what goes beyond one is refused with a line that names it."""

    body_bytes: int = 56 * MIB
    """Of a whole request: four of the largest pictures as base64, or a film."""
    picture_bytes: int = 10 * MIB
    """Of an encoded picture."""
    film_bytes: int = 32 * MIB
    """Of an encoded film."""
    pixels: int = 50_000_000
    """Of a picture."""
    film_pixels: int = 1_000_000_000
    """Of all frames of a film together."""
    count: int = 64
    """Pictures that one request gets painted or encoded."""
    frames: int = 200
    """Of a film."""
    parts: int = 2 * 64
    """Fields of a multipart form."""
