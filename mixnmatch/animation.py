"""Animations and videos: read frame by frame, and written with the pace of their source."""

import importlib.util
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageSequence, UnidentifiedImageError

from mixnmatch.data.pictures import FORMATS, check_pixels, picture_errors, to_rgb
from mixnmatch.errors import DataError, InputError
from mixnmatch.sheets import written_whole

ANIMATIONS = (".gif", ".webp", ".png", ".apng", ".mp4")
"""Endings that an animation can be written under."""
ALWAYS_MOVING = (".gif", ".apng", ".mp4")
"""Those that are not written for a still picture."""
LONGEST_FRAME = 655.35
"""Most seconds that a written frame is shown for: what a GIF can say."""

# What a file may be for FFmpeg: films, no playlists that name further files, no text.
_FILMS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,flv,ogg,asf,ivf"
_CLOCK = 90_000
"""Ticks a second of the videos written: 24, 25, 30 and 50 frames a second divide it."""
_TENTH = 0.1


class Frame(NamedTuple):
    """One picture of an animation."""

    picture: Image.Image
    """RGB."""
    seconds: float
    """How long it is shown."""


class Written(NamedTuple):
    """What an animation came to."""

    frames: int
    seconds: float
    width: int
    """In pixels."""
    height: int
    """In pixels."""


def read_frames(path: Path) -> Iterator[Frame]:
    """Read an animated picture (GIF, WebP, APNG) or a video, one frame in memory at a time.

    Transparent parts become white. A video has one pace, its average; a phone's turn is applied.
    Frames of an animated picture without a time, or of up to 10 ms, are shown for 100 ms, as
    browsers do. A still picture is one frame. A torn video ends with the frames that it has.

    Raises:
        DataError: If the file is missing, empty, damaged, too large or neither.
    """
    try:
        size = path.stat().st_size
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    with file, picture_errors(str(path), size):
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            image = None
        if image is not None:
            yield from _picture_frames(image, str(path))
            return
    yield from _video_frames(path)


def thin(frames: Iterable[Frame], every: int) -> Iterator[Frame]:
    """The first of each ``every`` frames, shown for the time of all of them."""
    ahead = iter(frames)
    for first in ahead:
        # One by one: of a long film's frames only the first of a group is kept in memory.
        others = (frame.seconds for frame in islice(ahead, every - 1))
        yield first._replace(seconds=sum(others, first.seconds))


def check_animation_name(path: Path) -> None:
    """Refuse a file name that no animation can be written under, before any work is done.

    Raises:
        InputError: If its ending is not one of ``ANIMATIONS``, or it is a folder.
    """
    suffix = path.suffix.lower()
    if suffix not in ANIMATIONS:
        raise InputError(
            f"{path}: no animation is written as {path.suffix or 'that'!r}: "
            "use .gif, .webp, .png or .mp4"
        )
    if suffix == ".mp4" and importlib.util.find_spec("av") is None:
        raise InputError(f"{path}: videos need PyAV: pip install av, or use .gif")
    if path.is_dir():
        raise InputError(f"{path}: cannot be written (Is a directory)")


def save_animation(frames: Iterable[Frame], path: Path) -> Written:
    """Write an animation under a temporary name and rename it; pictures loop for ever.

    A GIF has a palette of 256 colours for each frame, and times in hundredths of a second, at least
    two of them: browsers slow what is faster. Frames are taken one by one; but for MP4, which is
    written as they come, all are kept until the file is written.

    Args:
        frames: All of one size; at least one. Of MP4 the sides must be even.
        path: Its ending is one of ``ANIMATIONS``.

    Raises:
        InputError: If its folder cannot be written to, or its frames are shown for too long.
    """
    ahead = _none_too_long(frames, path)
    first = next(ahead)
    frames = chain([first], ahead)
    with written_whole(path) as partial:
        if path.suffix.lower() == ".mp4":
            count, seconds = _save_video(frames, partial)
        else:
            count, seconds = _save_pictures(frames, partial, path)
    return Written(count, seconds, *first.picture.size)


def _none_too_long(frames: Iterable[Frame], path: Path) -> Iterator[Frame]:
    for frame in frames:
        if frame.seconds > LONGEST_FRAME:
            raise InputError(
                f"{path}: cannot be written (a frame is shown for {frame.seconds:g} s: "
                f"it must be at most {LONGEST_FRAME:g} s)"
            )
        yield frame


def _save_pictures(frames: Iterable[Frame], partial: Path, path: Path) -> tuple[int, float]:
    gif = path.suffix.lower() == ".gif"
    unit, least = (10, 2) if gif else (1, 1)
    pictures, delays = [], []
    seconds, told = 0.0, 0
    for frame in frames:
        pictures.append(_with_palette(frame.picture) if gif else frame.picture)
        seconds += frame.seconds
        # What rounding takes from one frame the next gets, so that the whole keeps its time.
        delay = max(least, round(1000 * seconds / unit) - told)
        told += delay
        delays.append(unit * delay)
    try:
        pictures[0].save(
            partial,
            save_all=True,
            append_images=pictures[1:],
            duration=delays,
            loop=0,
            quality=90,  # of WebP; the others lose nothing more
        )
    except (OverflowError, RuntimeError) as error:
        # Equal frames are one in a GIF, and WebP counts its milliseconds from the first frame on.
        raise InputError(
            f"{path}: cannot be written ({error}; {len(pictures)} frames are shown for "
            f"{seconds:g} s in all): make it shorter, or use .mp4"
        ) from error
    return len(pictures), unit * told / 1000


def _with_palette(picture: Image.Image) -> Image.Image:
    # Without dithering, whose dots would dance from frame to frame.
    return picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def _save_video(frames: Iterable[Frame], partial: Path) -> tuple[int, float]:
    import av

    count, seconds = 0, 0.0
    with av.open(str(partial), "w", format="mp4", options={"movflags": "faststart"}) as film:
        stream = None
        for frame in frames:
            if stream is None:
                rate = Fraction(1 / frame.seconds).limit_denominator(1001)
                stream = film.add_stream("libx264", rate=rate, options={"crf": "16"})
                stream.width, stream.height = frame.picture.size
                stream.pix_fmt = "yuv420p"  # what every player knows
                stream.codec_context.time_base = Fraction(1, _CLOCK)
            picture = av.VideoFrame.from_image(frame.picture)
            picture.pts = round(_CLOCK * seconds)
            picture.time_base = Fraction(1, _CLOCK)
            film.mux(stream.encode(picture))
            count += 1
            seconds += frame.seconds
        assert stream is not None
        film.mux(stream.encode(None))
    return count, seconds


def _picture_frames(image: Image.Image, source: str) -> Iterator[Frame]:
    for frame in ImageSequence.Iterator(image):
        # Each, because frames may be larger than those before them.
        check_pixels(frame.size, source)
        frame.load()  # some formats know the time only then
        milliseconds = frame.info.get("duration", 0)
        yield Frame(to_rgb(frame), milliseconds / 1000 if milliseconds > 10 else _TENTH)


def _video_frames(path: Path) -> Iterator[Frame]:
    try:
        import av
    except ImportError as error:
        raise InputError(
            f"{path}: not an animated picture, and videos need PyAV: pip install av"
        ) from error

    count = 0
    try:
        with av.open(str(path), options={"format_whitelist": _FILMS}) as film:
            if not film.streams.video:
                raise DataError(f"{path}: a film without a picture: it must have a video stream")
            stream = film.streams.video[0]
            stream.thread_type = "AUTO"
            check_pixels((stream.width, stream.height), str(path))
            rate = stream.average_rate or stream.guessed_rate
            seconds = float(1 / rate) if rate else _TENTH
            for frame in film.decode(stream):
                # Each, because a stream may change its size on the way.
                check_pixels((frame.width, frame.height), str(path))
                picture = frame.to_image()
                if frame.rotation % 360:
                    picture = picture.rotate(frame.rotation, expand=True)
                yield Frame(picture, seconds)
                count += 1
    except av.FFmpegError as error:
        reason = error.strerror or error
        what = f"damaged after frame {count}" if count else "neither a picture nor a video"
        raise DataError(f"{path}: {what} ({reason})") from error
    if not count:
        raise DataError(f"{path}: a video without a frame")
