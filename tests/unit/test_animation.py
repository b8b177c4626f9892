import fractions
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from mixnmatch import animation
from mixnmatch.animation import (
    ANIMATIONS,
    Frame,
    check_animation_name,
    read_frames,
    save_animation,
    thin,
)
from mixnmatch.errors import DataError, InputError


def shades(count: int = 6, seconds: float = 0.04, side: int = 32) -> list[Frame]:
    """Frames that can be told apart: a white bar that moves over colours."""
    base = Image.linear_gradient("L").resize((side, side))
    colours = Image.merge("RGB", (base, base.rotate(90), Image.new("L", base.size, 128)))
    frames = []
    for i in range(count):
        picture = colours.copy()
        picture.paste("white", (4 * i, 0, 4 * i + 4, side))
        frames.append(Frame(picture, seconds))
    return frames


def difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean())


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_what_is_written_is_read_again(suffix: str, tmp_path: Path) -> None:
    frames = shades()
    path = tmp_path / "new" / f"a{suffix}"
    written = save_animation(iter(frames), path)
    assert written == (6, pytest.approx(0.24), 32, 32)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    again = list(read_frames(path))
    assert [frame.seconds for frame in again] == pytest.approx([0.04] * 6)
    for before, after in zip(frames, again, strict=True):
        assert after.picture.mode == "RGB"
        # MP4 halves the resolution of colours.
        assert difference(before.picture, after.picture) < (6 if suffix == ".mp4" else 3)
        assert difference(before.picture, frames[0].picture) == 0 or (
            difference(after.picture, frames[0].picture) > 10
        )


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_pictures_loop_for_ever(suffix: str, tmp_path: Path) -> None:
    save_animation(shades(), tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.info["loop"] == 0
        assert image.n_frames == 6


def test_a_gif_keeps_the_time_that_its_delays_round_away(tmp_path: Path) -> None:
    save_animation(shades(6, seconds=1 / 30), tmp_path / "a.gif")
    delays = [frame.seconds for frame in read_frames(tmp_path / "a.gif")]
    assert set(delays) == {0.03, 0.04}
    assert sum(delays) == pytest.approx(0.2)
    # Browsers slow what is faster than two hundredths.
    assert save_animation(shades(6, seconds=0.001), tmp_path / "a.gif").seconds == 0.12


def test_a_gif_has_the_colours_of_each_frame(tmp_path: Path) -> None:
    hues = [Image.new("RGB", (32, 32), colour) for colour in ("#ff1030", "#10c050", "#2040ff")]
    save_animation([Frame(hue, 0.1) for hue in hues], tmp_path / "a.gif")
    for hue, frame in zip(hues, read_frames(tmp_path / "a.gif"), strict=True):
        assert difference(hue, frame.picture) == 0


def test_frames_of_uneven_length_keep_theirs(tmp_path: Path) -> None:
    uneven = [f._replace(seconds=0.1 * (i + 1)) for i, f in enumerate(shades(3))]
    for suffix in (".gif", ".webp", ".png"):
        save_animation(uneven, tmp_path / f"a{suffix}")
        again = read_frames(tmp_path / f"a{suffix}")
        assert [frame.seconds for frame in again] == pytest.approx([0.1, 0.2, 0.3])
    save_animation(uneven, tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as film:
        times = [frame.time for frame in film.decode(video=0)]
    assert times == pytest.approx([0, 0.1, 0.3])


def test_a_video_has_the_rate_of_its_frames(tmp_path: Path) -> None:
    for rate in (24, 25, 30, 60):
        save_animation(shades(4, seconds=1 / rate), tmp_path / "a.mp4")
        with av.open(str(tmp_path / "a.mp4")) as film:
            assert film.streams.video[0].average_rate == rate
            assert film.streams.video[0].pix_fmt == "yuv420p"


def test_thinned_frames_take_the_time_of_those_left_out() -> None:
    frames = shades(5, seconds=0.1)
    kept = list(thin(frames, 2))
    assert [frame.seconds for frame in kept] == pytest.approx([0.2, 0.2, 0.1])
    assert [frame.picture for frame in kept] == [frame.picture for frame in frames[::2]]
    assert list(thin(frames, 1)) == frames


def test_of_thinned_frames_only_those_taken_are_kept() -> None:
    made: list[weakref.ref[Image.Image]] = []
    most = 0

    def film() -> Iterator[Frame]:
        nonlocal most
        for _ in range(300):
            picture = Image.new("RGB", (8, 8))
            made.append(weakref.ref(picture))
            most = max(most, sum(known() is not None for known in made))
            yield Frame(picture, 0.01)

    assert [f.seconds for f in thin(film(), 100)] == pytest.approx([1, 1, 1])
    assert most < 10


def test_a_torn_film_gives_the_frames_it_has(tmp_path: Path) -> None:
    whole = [Frame(Image.effect_noise((64, 64), 80).convert("RGB"), 0.04) for _ in range(8)]
    path = tmp_path / "a.mp4"
    save_animation(whole, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    frames = list(read_frames(path))
    assert 0 < len(frames) < 8
    assert difference(frames[0].picture, whole[0].picture) < 12


def test_transparent_frames_get_white_behind_them(tmp_path: Path) -> None:
    clear = [Image.new("RGBA", (32, 32), (0, 0, 0, 0)) for _ in range(2)]
    clear[1].paste((255, 0, 0, 255), (0, 0, 16, 32))
    for suffix in ("webp", "png", "gif"):
        path = tmp_path / f"a.{suffix}"
        clear[0].save(path, save_all=True, append_images=clear[1:], duration=70, lossless=True)
        frames = list(read_frames(path))
        assert [frame.seconds for frame in frames] == [0.07, 0.07]
        assert frames[1].picture.getpixel((20, 20)) == (255, 255, 255)
        assert frames[1].picture.getpixel((5, 5))[0] > 250


def test_frames_without_a_time_last_a_tenth(tmp_path: Path) -> None:
    first, second = (frame.picture for frame in shades(2))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert [frame.seconds for frame in read_frames(tmp_path / "a.gif")] == [0.1, 0.1]
    first.save(tmp_path / "still.jpg")
    assert [frame.seconds for frame in read_frames(tmp_path / "still.jpg")] == [0.1]


@pytest.mark.parametrize(("codec", "form"), [("libvpx-vp9", "webm"), ("mpeg4", "avi")])
def test_other_videos_are_read(codec: str, form: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}"
    with av.open(str(path), "w") as film:
        stream = film.add_stream(codec, rate=fractions.Fraction(10), options={"crf": "10"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for frame in shades(5, side=64):
            film.mux(stream.encode(av.VideoFrame.from_image(frame.picture)))
        film.mux(stream.encode(None))
    frames = list(read_frames(path))
    assert [frame.seconds for frame in frames] == pytest.approx([0.1] * 5)
    assert difference(frames[2].picture, shades(5, side=64)[2].picture) < 12


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty", "torn", "list", "sound"])
def test_files_that_are_no_film(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind == "torn":
        save_animation(shades(), path)
        path.write_bytes(path.read_bytes()[:600])
    elif kind == "sound":
        path = tmp_path / "a.mkv"
        with av.open(str(path), "w") as film:
            stream = film.add_stream("pcm_s16le", rate=8000)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
            sound.sample_rate = 8000
            film.mux(stream.encode(sound))
    elif kind != "missing":
        # FFmpeg would take the one for a terminal's picture, the other for a list of more files.
        path = tmp_path / ("a.txt" if kind == "text" else "a.m3u8")
        texts = {"text": "hello\n" * 99, "empty": "", "list": "#EXTM3U\n#EXTINF:1,\n/etc/hosts\n"}
        path.write_text(texts[kind])
    with pytest.raises(DataError) as caught:
        list(read_frames(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_frames_beyond_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix in (".gif", ".mp4"):
        save_animation(shades(), tmp_path / f"a{suffix}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    for suffix in (".gif", ".mp4"):
        with pytest.raises(DataError, match=r"32x32 pixels: at most 600 are accepted|more than"):
            next(read_frames(tmp_path / f"a{suffix}"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="more than 200 pixels: at most 100"):
        next(read_frames(tmp_path / "a.gif"))


def test_each_frame_of_a_video_is_held_against_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ts"
    for side in (32, 64):  # one after the other they are a stream that grows
        with av.open(str(tmp_path / f"{side}.ts"), "w") as film:
            stream = film.add_stream("libx264", rate=fractions.Fraction(25))
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
            for frame in shades(4, side=side):
                film.mux(stream.encode(av.VideoFrame.from_image(frame.picture)))
            film.mux(stream.encode(None))
        with path.open("ab") as grown:
            grown.write((tmp_path / f"{side}.ts").read_bytes())
    assert {frame.picture.size for frame in read_frames(path)} == {(32, 32), (64, 64)}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(DataError, match=r"a\.ts: 64x64 pixels: at most 2000 are accepted"):
        list(read_frames(path))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("suffix", [".gif", ".tiff"])
def test_each_frame_of_a_picture_is_held_against_the_limit(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    small, large = (shades(1, side=side)[0].picture for side in (32, 64))
    if suffix == ".tiff":
        small.save(path, save_all=True, append_images=[large])
    else:
        for picture in (small, large):
            picture.quantize(256).save(tmp_path / f"{picture.width}.gif", optimize=False)
        # The second one's frame behind that of the first, whose palette it takes.
        head = 13 + 3 * 256
        first, second = ((tmp_path / f"{side}.gif").read_bytes() for side in (32, 64))
        path.write_bytes(first[:-1] + second[head:])
    assert [frame.picture.size for frame in read_frames(path)] == [(32, 32), (64, 64)]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2500)
    with pytest.raises(DataError, match=rf"a\{suffix}: 64x64 pixels: at most 2500 are accepted"):
        list(read_frames(path))


def test_a_picture_with_too_long_a_text_is_refused(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("story", "a" * 2 * PngImagePlugin.MAX_TEXT_CHUNK, zip=True)
    shades(1)[0].picture.save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(DataError, match=r"a\.png: corrupt or truncated picture \(Decomp"):
        list(read_frames(tmp_path / "a.png"))


def test_without_pyav_videos_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_animation(shades(), tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"a\.mp4: .* videos need PyAV: pip install av"):
        next(read_frames(tmp_path / "a.mp4"))
    with pytest.raises(InputError, match="videos need PyAV"):
        check_animation_name(tmp_path / "b.mp4")
    check_animation_name(tmp_path / "b.gif")


def test_names_that_no_animation_can_have(tmp_path: Path) -> None:
    for name in ("a.gif", "a.WEBP", "a.png", "b/a.apng", "a.mp4"):
        check_animation_name(tmp_path / name)
    for name in ("a.jpg", "a", "a.gif.zip", "a.webm"):
        with pytest.raises(InputError, match=r"use \.gif, \.webp, \.png or \.mp4"):
            check_animation_name(tmp_path / name)
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(InputError, match="Is a directory"):
        check_animation_name(tmp_path / "folder.gif")


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_a_frame_may_last_as_long_as_a_gif_can_say(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"a{suffix}"
    with pytest.raises(InputError, match=r"a frame is shown for 700 s: it must be at most 655\.35"):
        save_animation(shades(2, seconds=700), path)
    assert not path.parent.exists()
    save_animation(shades(3, seconds=animation.LONGEST_FRAME), path)
    again = [frame.seconds for frame in read_frames(path)]
    assert again == pytest.approx([655.35] * 3, rel=1e-3)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_times_that_a_format_cannot_count_are_refused(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A GIF's equal frames become one of 800 s, the other's milliseconds go beyond 32 bits.
    frames = 2 * shades(1, seconds=400)
    if suffix == ".webp":
        monkeypatch.setattr(animation, "LONGEST_FRAME", 10**6)
        frames = shades(4, seconds=10**6)
    with pytest.raises(InputError, match=r"a\.\w+: cannot be written \(.*: make it shorter"):
        save_animation(frames, tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_work_that_fails_leaves_no_file(suffix: str, tmp_path: Path) -> None:
    def failing() -> Iterator[Frame]:
        yield from shades(2)
        raise DataError("the third frame is damaged")

    path = tmp_path / f"a{suffix}"
    path.write_text("what was there")
    with pytest.raises(DataError, match="the third"):
        save_animation(failing(), path)
    assert path.read_text() == "what was there"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(InputError, match="cannot be written"):
        save_animation(shades(2), path / f"b{suffix}")
