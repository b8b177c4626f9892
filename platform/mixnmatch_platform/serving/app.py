"""The routes of the service."""

import base64
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from torch import Tensor

import mixnmatch_platform
from mixnmatch import __version__
from mixnmatch.data.pictures import encode_png
from mixnmatch.errors import MixNMatchError
from mixnmatch.metrics.report import finite_or_null
from mixnmatch.recipes import Recipe
from mixnmatch.sheets import to_picture
from mixnmatch_platform.serving.fields import (
    Animate,
    Encode,
    Mix,
    Vary,
    description_of,
    read_fields,
)
from mixnmatch_platform.serving.metrics import page_of
from mixnmatch_platform.serving.service import Loaded, Service
from mixnmatch_platform.serving.watch import Watch

__all__ = ["make_app"]

PNG, GIF, JSON, PLAIN = "image/png", "image/gif", "application/json", "text/plain; version=0.0.4"
STUDIO = "studio"
"""Folder of this package with the page and its files."""
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""The page's: its own files only, and pictures that it makes itself."""
OTHERS = Callable[[], Awaitable[dict[str, Any]]]
ASK_AGAIN = "private, no-cache"
"""Another data set, or model, may be served at the same address."""


def make_app(service: Service, others: OTHERS) -> Watch:
    """The application.

    Args:
        service: Answers.
        others: The figures of all replicas, as far as they are known.
    """
    app = FastAPI(
        title="MixNMatch",
        version=__version__,
        description="Mix the background, pose, shape and texture of pictures.",
        docs_url=None,  # their pages load scripts of other servers
        redoc_url=None,
    )
    _add_errors(app)
    _add_painting(app, service)
    _add_looking(app, service, others)
    _add_studio(app)
    # Around all of it, so that answers to errors are marked, too.
    return Watch(app, service)


def _add_painting(app: FastAPI, service: Service) -> None:
    limits = service.limits

    @app.post(
        "/mix",
        openapi_extra=description_of(Mix),
        responses={200: {"content": {PNG: {}, JSON: {}}}},
        response_class=Response,
    )
    async def mix(request: Request) -> Response:
        """Paint the factors of several pictures as one: PNG, or JSON where that is accepted."""
        loaded, fields = service.loaded, await read_fields(request, Mix, limits)
        image, recipe = await service.mix(loaded, fields)
        png = await service.aside(_png, image)
        if JSON not in request.headers.get("accept", ""):
            return Response(png, media_type=PNG, headers=_headers(loaded))
        return _json(loaded, {"picture": _data_uri(png), "codes": _codes(recipe)})

    @app.post("/vary", openapi_extra=description_of(Vary))
    async def vary(request: Request) -> Response:
        """Paint one mix with many values of one factor."""
        loaded, fields = service.loaded, await read_fields(request, Vary, limits)
        images, values = await service.vary(loaded, fields)
        pngs = [await service.aside(_png, image) for image in images]
        return _json(loaded, {"pictures": [_data_uri(png) for png in pngs], "values": values})

    @app.post("/encode", openapi_extra=description_of(Encode))
    async def encode(request: Request) -> Response:
        """The codes of pictures."""
        loaded, fields = service.loaded, await read_fields(request, Encode, limits)
        recipe = await service.encode(loaded, fields)
        return _json(loaded, {"codes": _confident_codes(recipe)})

    @app.post(
        "/animate",
        openapi_extra=description_of(Animate),
        responses={200: {"content": {GIF: {}}}},
        response_class=Response,
    )
    async def animate(request: Request) -> Response:
        """Paint the frames of a film, as an animation."""
        loaded, fields = service.loaded, await read_fields(request, Animate, limits)
        painted = await service.animate(loaded, fields)
        return Response(painted, media_type=GIF, headers=_headers(loaded))


def _add_looking(app: FastAPI, service: Service, others: OTHERS) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        """Whether the service answers, and with which model."""
        served = service.loaded.served
        return {"status": "ok", "model": served.name, "version": served.version}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Figures of all replicas, for Prometheus; told apart by the label ``replica``."""
        replicas = {**await others(), service.replica: service.metrics.told()}
        return Response(page_of(replicas), media_type=PLAIN)

    @app.get("/about")
    async def about() -> Response:
        """What the model can do, what requests may ask for, and what there is to choose from."""
        loaded, limits = service.loaded, service.limits
        mixer = loaded.painter.mixer
        return _json(
            loaded,
            {
                "model": loaded.served.name,
                "image_size": mixer.image_size,
                "modes": loaded.modes,
                "categories": loaded.categories,
                "limits": {
                    "picture_bytes": limits.picture_bytes,
                    "film_bytes": limits.film_bytes,
                    "pixels": limits.pixels,
                    "count": limits.count,
                    "frames": limits.frames,
                },
                "gallery": list(loaded.gallery),
                "figures": finite_or_null(mixer.bundle.metrics),
            },
        )

    @app.get("/gallery/{name}", response_class=Response)
    async def gallery(name: str) -> Response:
        """A picture that requests can name, as ``gallery:ID``."""
        loaded = service.loaded
        if name not in loaded.gallery:
            raise HTTPException(404, f"there is no picture {name[:60]!r} in the gallery")
        _, png = loaded.gallery[name]
        headers = {**_headers(loaded), "Cache-Control": ASK_AGAIN}
        return Response(png, media_type=PNG, headers=headers)


def _add_studio(app: FastAPI) -> None:
    pages = files(mixnmatch_platform) / STUDIO
    there = {page.name: page for page in pages.iterdir() if page.is_file()}

    def page_named(name: str) -> Response:
        if name not in there:
            raise HTTPException(404, f"there is no file {name[:60]!r}")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        # Asked for again each time, so that a page never meets the script of another version.
        headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        if name == "index.html":
            headers["Content-Security-Policy"] = POLICY
        return Response(there[name].read_bytes(), media_type=kind, headers=headers)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return page_named("index.html")

    @app.get("/studio/{name}", include_in_schema=False)
    async def page(name: str) -> Response:
        return page_named(name)


def _add_errors(app: FastAPI) -> None:
    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _refusal(error.detail, error.status_code, error.headers)

    async def input_error(_: Request, error: Exception) -> Response:
        return _refusal(" ".join(str(error).split()), 422)

    async def disconnected(_: Request, __: Exception) -> Response:
        return _refusal("the request ended early", 400)

    async def unexpected(_: Request, error: Exception) -> Response:
        return _refusal(f"the server failed ({type(error).__name__})", 500)

    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(MixNMatchError, input_error)
    app.add_exception_handler(ClientDisconnect, disconnected)
    app.add_exception_handler(Exception, unexpected)


def _refusal(line: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    # JSON may name half a letter ("\\ud800"), which UTF-8 has no bytes for.
    line = line.encode(errors="backslashreplace").decode()
    return JSONResponse({"error": line}, status, headers)


def _headers(loaded: Loaded) -> dict[str, str]:
    version = loaded.served.version
    return {} if version is None else {"X-Model-Version": str(version)}


def _json(loaded: Loaded, content: dict[str, Any]) -> Response:
    return JSONResponse({**content, "version": loaded.served.version}, headers=_headers(loaded))


def _png(image: Tensor) -> bytes:
    return encode_png(to_picture(image))


def _data_uri(png: bytes) -> str:
    return f"data:{PNG};base64,{base64.b64encode(png).decode()}"


def _codes(recipe: Recipe) -> dict[str, Any]:
    """What a picture was painted from; of pose and shape only what code mode looks at."""
    codes = recipe.codes
    seen = recipe.feature is None
    return {
        "background": int(codes.b[0].argmax()),
        "shape": int(codes.p[0].argmax()) if seen else None,
        "texture": int(codes.c[0].argmax()),
        "pose": codes.z[0].tolist() if seen else None,
    }


def _confident_codes(recipe: Recipe) -> list[dict[str, Any]]:
    names = {"background": recipe.codes.b, "shape": recipe.codes.p, "texture": recipe.codes.c}
    return [
        {
            **{
                name: {"category": int(rows[i].argmax()), "confidence": float(rows[i].max())}
                for name, rows in names.items()
            },
            "pose": pose.tolist(),
        }
        for i, pose in enumerate(recipe.codes.z)
    ]
