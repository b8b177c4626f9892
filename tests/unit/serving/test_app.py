"""The routes as the contract has them."""

import asyncio
import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asking import VERSION, Answer, Ask, ask_app, encoded, files, nobody
from PIL import Image

from mixnmatch.bundle import load_bundle
from mixnmatch.mixer import Mixer
from mixnmatch.sheets import to_picture
from mixnmatch_platform.serving.app import make_app
from mixnmatch_platform.serving.limits import Limits
from mixnmatch_platform.serving.service import Service
from mixnmatch_platform.serving.watch import digest

OTHERS = {"shape_code": 0, "texture_code": 0, "pose_seed": 0}
"""Codes of all factors but the background."""
AS_JSON = {"Accept": "application/json"}
FORM = "multipart/form-data"


def of_uri(uri: str) -> Image.Image:
    head, _, encoded = uri.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def same(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures differ by rounding at most."""
    difference = np.asarray(one).astype(int) - np.asarray(other).astype(int)
    return bool(np.abs(difference).max() <= 1)


@pytest.fixture
def ids(gallery: dict[str, bytes]) -> list[str]:
    return [f"gallery:{name}" for name in gallery]


def test_a_mix_is_the_mixer_s(
    ask: Ask, mixer: Mixer, png: bytes, tmp_path: Path, ids: list[str]
) -> None:
    answer = ask("POST", "/mix", files=files(background=png, shape=ids[0], texture=ids[1]))
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert answer.headers["x-model-version"] == str(VERSION)
    (tmp_path / "picture").write_bytes(png)
    background = mixer.read(tmp_path / "picture")
    seen = gallery_tensors(ask)
    expected = mixer.mix_tensors(
        background=background, pose=seen[ids[0]], shape=seen[ids[0]], texture=seen[ids[1]]
    )
    assert same(answer.picture(), to_picture(expected[0]))


def gallery_tensors(ask: Ask) -> dict[str, torch.Tensor]:
    """Pictures of the gallery as they are shown, by the name for a field."""
    about = ask("GET", "/about").json()
    tensors = {}
    for name in about["gallery"]:
        shown = np.array(ask("GET", f"/gallery/{name}").picture())
        pixels = torch.from_numpy(shown).permute(2, 0, 1)[None]
        tensors[f"gallery:{name}"] = pixels.float() / 127.5 - 1
    return tensors


def test_json_says_what_was_painted_from(ask: Ask, png: bytes, ids: list[str]) -> None:
    coded = base64.b64encode(png).decode()
    body = {"background": ids[0], "shape": coded, "texture": f"data:image/png;base64,{coded}"}
    content = ask("POST", "/mix", json=body, headers=AS_JSON).json()
    assert content.keys() == {"picture", "codes", "version"}
    assert content["version"] == VERSION
    assert of_uri(content["picture"]).size == (32, 32)
    assert content["codes"].keys() == {"background", "pose", "shape", "texture"}
    assert len(content["codes"]["pose"]) == 5
    painted = ask("POST", "/mix", json=body).picture()
    assert same(painted, of_uri(content["picture"]))

    chosen = body | {"texture_code": 3, "background_code": 2, "shape_code": 1, "pose_seed": 9}
    codes = ask("POST", "/mix", json=chosen, headers=AS_JSON).json()["codes"]
    assert (codes["background"], codes["shape"], codes["texture"]) == (2, 1, 3)
    random = torch.Generator().manual_seed(9)
    assert codes["pose"] == pytest.approx(torch.randn(5, generator=random).tolist())
    alone = {name: value for name, value in chosen.items() if "_" in name}
    assert ask("POST", "/mix", json=alone).status == 200

    feature = ask("POST", "/mix", json=body | {"mode": "feature"}, headers=AS_JSON).json()
    assert feature["codes"]["shape"] is feature["codes"]["pose"] is None


def test_a_sketch_is_filled_and_trimmed(
    ask: Ask, mixer: Mixer, drawing: bytes, png: bytes, tmp_path: Path
) -> None:
    sent = files(background=png, shape=drawing, texture=png, mode="feature", sketch="true")
    answer = ask("POST", "/mix", files=sent)
    for name, data in (("drawing", drawing), ("picture", png)):
        (tmp_path / name).write_bytes(data)
    shape = mixer.read_drawing(tmp_path / "drawing", fill=True, trim=True)
    other = mixer.read(tmp_path / "picture")
    expected = mixer.mix_tensors(
        background=other, pose=shape, shape=shape, texture=other, mode="feature"
    )
    assert same(answer.picture(), to_picture(expected[0]))
    plain = ask("POST", "/mix", files=sent | files(sketch="false"))
    assert not same(plain.picture(), answer.picture())


def test_codes_of_pictures(
    ask: Ask, mixer: Mixer, png: bytes, tmp_path: Path, ids: list[str]
) -> None:
    (tmp_path / "picture").write_bytes(png)
    codes = mixer.encode(mixer.read(tmp_path / "picture"))
    many = ask("POST", "/encode", json={"picture": [ids[0], base64.b64encode(png).decode()]})
    one = ask("POST", "/encode", files=files(picture=png))
    for said in (many.json()["codes"][1], one.json()["codes"][0]):
        assert said["pose"] == pytest.approx(codes.z[0].tolist(), abs=1e-5)
        assert said["texture"]["category"] == int(codes.c[0].argmax())
        assert said["texture"]["confidence"] == pytest.approx(float(codes.c[0].max()), abs=1e-5)
    assert many.json()["version"] == VERSION


@pytest.mark.parametrize("factor", ["background", "pose", "shape", "texture"])
def test_values_of_a_variation_go_into_its_field(ask: Ask, ids: list[str], factor: str) -> None:
    body = {"background": ids[0], "shape": ids[1], "texture": ids[2]}
    varied = ask("POST", "/vary", json=body | {"factor": factor, "count": 2}).json()
    assert varied["values"] == [0, 1]
    assert varied["version"] == VERSION
    field = "pose_seed" if factor == "pose" else f"{factor}_code"
    for value, uri in zip(varied["values"], varied["pictures"], strict=True):
        again = ask("POST", "/mix", json=body | {field: value}).picture()
        assert same(of_uri(uri), again)
    later = ask("POST", "/vary", json=body | {"factor": factor, "count": 1, "start": 1}).json()
    assert later["values"] == [1]
    assert same(of_uri(later["pictures"][0]), of_uri(varied["pictures"][1]))


def test_a_variation_needs_no_picture_of_what_varies(ask: Ask, ids: list[str]) -> None:
    body = {"background": ids[0], "shape": ids[1], "factor": "texture", "count": 4}
    assert len(ask("POST", "/vary", json=body).json()["pictures"]) == 4


def test_an_animation_keeps_its_pace(ask: Ask, film: bytes, png: bytes) -> None:
    for mode in ({}, {"mode": "code"}):
        sent = files(driving=film, background=png, texture=png, **mode)
        answer = ask("POST", "/animate", files=sent)
        assert answer.headers["content-type"] == "image/gif"
        painted: Any = answer.picture()
        assert (painted.n_frames, painted.size, painted.info["duration"]) == (10, (32, 32), 80)


def test_a_program_is_no_film(ask: Ask, png: bytes) -> None:
    """Pillow would have Ghostscript run it."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    answer = ask("POST", "/animate", files=files(driving=program, background=png, texture=png))
    assert answer.status == 422
    assert answer.error.startswith("driving: neither a picture nor a video")


def test_about(ask: Ask, gallery: dict[str, bytes]) -> None:
    about = ask("GET", "/about").json()
    assert about["model"] == "birds"
    assert about["version"] == VERSION
    assert about["image_size"] == 32
    assert about["modes"] == ["code", "feature"]
    assert about["categories"] == {"background": 4, "shape": 2, "texture": 4}
    assert about["gallery"] == list(gallery)
    assert about["figures"] == {"mask_contrast": 0.5}
    assert {"picture_bytes", "pixels", "count", "frames"} <= about["limits"].keys()
    assert ask("GET", "/healthz").json() == {"status": "ok", "model": "birds", "version": VERSION}


def test_pictures_of_the_gallery_are_asked_for_again(ask: Ask, gallery: dict[str, bytes]) -> None:
    """Another data set may be served at the same address."""
    answer = ask("GET", f"/gallery/{next(iter(gallery))}")
    assert answer.picture().size == (32, 32)
    assert answer.headers["cache-control"] == "private, no-cache"
    assert ask("GET", "/gallery/none").status == 404


def test_the_page_and_its_files_and_no_others(ask: Ask) -> None:
    page = ask("GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    for name in ("studio.js", "studio.css"):
        assert ask("GET", f"/studio/{name}").status == 200
    for name in ("none.js", "..%2fcli.py", "../cli.py", "%2e%2e/cli.py", "../../cli.py"):
        assert ask("GET", f"/studio/{name}").status == 404


def test_openapi_describes_the_fields(ask: Ask) -> None:
    paths = ask("GET", "/openapi.json").json()["paths"]
    assert {"/mix", "/vary", "/encode", "/animate", "/about", "/healthz"} <= paths.keys()
    content = paths["/vary"]["post"]["requestBody"]["content"]
    for kind in ("multipart/form-data", "application/json"):
        schema = content[kind]["schema"]
        assert {"texture_code", "factor", "start", "sketch"} <= schema["properties"].keys()
        assert set(schema["required"]) == {"factor", "count"}
    assert ask("GET", "/docs").status == 404


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({}, "background is missing: send a picture, or background_code"),
        ({"colour": 1}, "no field 'colour'"),
        ({"background_code": 4}, "background category is 4: this model has 0 to 3"),
        ({"background_code": -1}, "background_code is '-1'"),
        ({"background_code": "x"}, "background_code is 'x': must be a valid integer"),
        ({"pose_seed": 2**32}, "pose_seed is '4294967296'"),
        ({"mode": "other"}, "mode is 'other'"),
        ({"mode": "feature", "shape_code": 1}, "shape cannot be set by a code in feature mode"),
        ({"mode": "feature", "pose_seed": 1}, "pose cannot be set by a code in feature mode"),
        (
            {"mode": "feature", "background_code": 0, "texture_code": 0},
            "shape is missing: send a picture, which feature mode needs",
        ),
        (OTHERS | {"background": "gallery:none"}, "background is gallery:none"),
        (OTHERS | {"background": "gallery:\ud800"}, r"background is gallery:\ud800: there is no"),
        ({"\ud800": 1}, r"no field '\ud800'"),
        ({"background": "no base64!"}, "background is 'no base64!': must be a file, base64"),
        ({"background": 7}, "background is '7': must be a file"),
        ({"background": ["a"]}, "background is wrong: must be a file"),
        (OTHERS | {"background": "AAAA"}, "background: not a picture that can be read (3 bytes)"),
        (
            OTHERS | {"background_code": 0, "shape": "gallery:none", "sketch": True},
            "a sketch must be sent",
        ),
    ],
)
def test_what_cannot_be_used_is_named(ask: Ask, body: dict[str, Any], line: str) -> None:
    answer = ask("POST", "/mix", json=body)
    assert answer.status == 422
    assert line in answer.error


def test_a_form_is_checked_as_json_is(ask: Ask, png: bytes) -> None:
    twice = [("background", ("a", png)), ("background", ("b", png))]
    assert "background is given twice" in ask("POST", "/mix", files=twice).error
    # Browsers send a field for a file that was not chosen.
    answer = ask("POST", "/mix", files=files(background=b"", shape=png, texture=png))
    assert "background is missing" in answer.error


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ({"data": b"x"}, 415),
        ({"data": b"x", "headers": {"content-type": "text/plain"}}, 415),
        ({"data": b"{", "headers": {"content-type": "application/json"}}, 400),
        ({"data": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 400),
        ({"json": [1]}, 400),
        ({"data": b"\xff", "headers": {"content-type": "application/json"}}, 400),
        ({"data": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"data": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 400),
        *(
            ({"data": b"x", "headers": {"content-type": f"{FORM}; boundary=b; {charset}"}}, status)
            for charset, status in {
                "charset=punycode": 415,
                'Charset="UTF-7"': 415,
                "charset=none": 415,
                'charset="Utf-8"': 400,
            }.items()
        ),
    ],
)
def test_bodies_that_cannot_be_read(ask: Ask, parts: dict[str, Any], status: int) -> None:
    answer = ask("POST", "/mix", **parts)
    assert answer.status == status
    assert answer.error


def test_limits(ask: Ask, tight: Limits, film: bytes, png: bytes, ids: list[str]) -> None:
    service = {"limits": tight}
    large = encoded(Image.new("RGB", (101, 100)), "PNG")
    heavy = encoded(Image.effect_noise((90, 100), 90), "PNG")
    assert len(large) < tight.picture_bytes < len(heavy)
    base = {"shape": ids[0], "texture": ids[0]}

    def refused(path: str, status: int, **parts: Any) -> str:
        answer = ask("POST", path, service=service, **parts)
        assert answer.status == status, answer.body
        return answer.error

    assert "101x100 pixels" in refused("/mix", 422, files=files(background=large, **base))
    assert "8000 are accepted" in refused("/mix", 413, files=files(background=heavy, **base))
    whole = files(background=b"x" * 50_000)
    assert "more than 40000 bytes" in refused("/mix", 413, files=whole)
    count = {**base, "background": ids[0], "factor": "pose", "count": 4}
    assert "at most 3" in refused("/vary", 422, json=count)
    assert "at most 3" in refused("/encode", 422, json={"picture": ids[:4]})
    moving = {"background": ids[0], "texture": ids[0]}
    assert "more than 9 frames" in refused("/animate", 422, files=files(driving=film, **moving))
    wide = encoded(
        Image.new("RGB", (90, 90)),
        "GIF",
        save_all=True,
        append_images=[Image.new("RGB", (90, 90), colour) for colour in ("red", "green")],
    )
    assert "20000 pixels" in refused("/animate", 422, files=files(driving=wide, **moving))
    many = {f"f{i}": b"x" for i in range(9)}
    assert "Too many files" in refused("/mix", 400, files=files(**many))


def test_a_model_without_stage_2_has_code_mode_alone(
    make_service: Callable[..., Service], stage1_bundle: Path, film: bytes, png: bytes
) -> None:
    async def go(path: str, **parts: Any) -> Answer:
        service = make_service()
        service.loaded.painter.mixer.bundle = load_bundle(stage1_bundle)
        return await ask_app(make_app(service, nobody), "POST", path, **parts)

    sent = files(background=png, shape=png, texture=png)
    assert asyncio.run(go("/mix", files=sent)).status == 200
    refused = asyncio.run(go("/mix", files=sent | files(mode="feature")))
    assert "no shape extractor" in refused.error
    painted = asyncio.run(go("/animate", files=files(driving=film, background=png, texture=png)))
    assert painted.status == 200


def test_the_token(ask: Ask) -> None:
    service = {"token": digest("secret")}

    def status(path: str, said: str | None = None) -> int:
        headers = {} if said is None else {"Authorization": said}
        return ask("GET", path, service=service, headers=headers).status

    for path in ("/", "/healthz", "/studio/studio.js"):
        assert status(path) == 200
    for path in ("/about", "/metrics", "/gallery/x", "/openapi.json", "/none"):
        for wrong in (None, "secret", "Bearer", "Bearer Secret", "Bearer secrets", "Basic secret"):
            assert status(path, wrong) == 401
    assert status("/about", "Bearer secret") == 200
    assert status("/about", "bearer secret") == 200
    refusal = ask("POST", "/mix", service=service, data=b"x" * 100)
    assert refusal.headers["www-authenticate"] == "Bearer"
    assert "token" in refusal.error


def test_figures_for_prometheus(make_service: Callable[..., Service], png: bytes) -> None:
    async def go() -> str:
        service = make_service()
        other = make_service(replica="r2").metrics
        other.requests.labels("/mix", "200").inc(5)

        async def others() -> dict[str, Any]:
            return {"r2": other.told()}

        app = make_app(service, others)
        sent = files(background=png, shape=png, texture=png)
        await asyncio.gather(*(ask_app(app, "POST", "/mix", files=sent) for _ in range(3)))
        await ask_app(app, "POST", "/mix", json={})
        return (await ask_app(app, "GET", "/metrics")).body.decode()

    lines = asyncio.run(go()).splitlines()
    assert 'mixnmatch_requests_total{replica="r1",route="/mix",status="200"} 3.0' in lines
    assert 'mixnmatch_requests_total{replica="r1",route="/mix",status="422"} 1.0' in lines
    assert 'mixnmatch_requests_total{replica="r2",route="/mix",status="200"} 5.0' in lines
    assert 'mixnmatch_pictures_painted_total{replica="r1"} 3.0' in lines
    assert 'mixnmatch_batch_rows_sum{replica="r1",work="paint"} 3.0' in lines
    assert 'mixnmatch_request_seconds_count{replica="r1",route="/mix"} 4.0' in lines
    assert sum(line.startswith("# TYPE mixnmatch_requests_total ") for line in lines) == 1


def test_an_error_of_ours_is_one_line(make_service: Callable[..., Service]) -> None:
    async def go() -> Answer:
        service = make_service()
        service.mix = None  # type: ignore[assignment, method-assign]
        app = make_app(service, nobody)

        async def logged(scope: Any, receive: Any, send: Any) -> None:
            with pytest.raises(TypeError):  # after the answer
                await app(scope, receive, send)

        return await ask_app(logged, "POST", "/mix", json={"background_code": 1})

    answer = asyncio.run(go())
    assert answer.status == 500
    assert answer.error == "the server failed (TypeError)"
    assert answer.headers["x-replica"] == "r1"


def test_json_is_json(ask: Ask) -> None:
    """What browsers parse has no NaN."""
    assert b"NaN" not in ask("GET", "/about").body
    json.loads(ask("GET", "/openapi.json").body)
