"""Published numbers on file, to be shown beside ours: other protocols, so never the same figure."""

from dataclasses import dataclass
from typing import Literal

from mixnmatch.data.info import Kind

PAPER = "https://arxiv.org/abs/1811.11155"
LISTING = "https://paperswithcode2.com/paper/60682"
ISSUES = "https://github.com/kkanshul/finegan/issues"

_QUALITY = (
    f"128 px, 30,000 pictures, as many of each fine code, tied codes, networks after hard negative "
    f"training; FID with ImageNet's Inception in PyTorch; crop and resizing of the real pictures "
    f"not stated ({ISSUES}/8, {ISSUES}/12)"
)
_SCORE = (
    "128 px, 30,000 pictures, as many of each fine code, tied codes, networks after hard negative "
    f"training; for birds the classifier was Inception tuned to them ({ISSUES}/17)"
)
_CLUSTERS = (
    "real pictures clustered by features learnt from generated ones, not by encoder codes; "
    f"normalisation of NMI and pictures used not stated, code not released ({ISSUES}/16)"
)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number that somebody published."""

    data_set: Kind
    """Layout of the data set that it is of."""
    measure: str
    """As the source calls it."""
    value: float
    """The number."""
    spread: float | None = None
    """What the source has behind ±: of the Inception Score, the deviation over ten parts."""
    model: str
    """What was measured."""
    by: Literal["its authors", "others"]
    """Who measured it."""
    protocol: str
    """How, as far as it is known."""
    source: str
    """Where it is said."""
    checked: str
    """Where we read it: a number copied by a listing is less sure than the paper's own."""


def _paper(
    data_set: Kind, measure: str, value: float, protocol: str, spread: float | None = None
) -> Published:
    return Published(
        data_set=data_set,
        measure=measure,
        value=value,
        spread=spread,
        model="FineGAN",
        by="its authors",
        protocol=protocol,
        source=PAPER,
        checked=f"in a listing of the paper's results, {LISTING}",
    )


PUBLISHED = (
    _paper("cub", "FID", 11.25, _QUALITY),
    _paper("cub", "Inception Score", 52.53, _SCORE, spread=0.45),
    Published(
        data_set="cub",
        measure="FID",
        value=22.08,
        model="FineGAN, released weights",
        by="others",
        protocol="30,000 pictures of 128 px, 150 of each fine code; pytorch-fid against the "
        "original pictures, neither cropped nor resized before",
        source=f"{ISSUES}/17",
        checked="at the source",
    ),
    Published(
        data_set="cub",
        measure="FID",
        value=18.79,
        model="FineGAN, released weights",
        by="others",
        protocol="TTUR's code (TensorFlow); number of pictures and crop not stated",
        source=f"{ISSUES}/12",
        checked="at the source",
    ),
    Published(
        data_set="cub",
        measure="Inception Score",
        value=43.20,
        spread=0.54,
        model="FineGAN, released weights",
        by="others",
        protocol="30,000 pictures of 128 px, 150 of each fine code, resized to 299 px; the "
        "authors' Inception tuned to birds, ten parts",
        source=f"{ISSUES}/17",
        checked="at the source",
    ),
    _paper("cub", "clustering NMI", 0.403, _CLUSTERS),
    _paper("cub", "clustering accuracy", 0.126, _CLUSTERS),
    _paper("dogs", "FID", 25.66, _QUALITY),
    _paper("dogs", "Inception Score", 46.92, _SCORE),
    _paper("dogs", "clustering NMI", 0.233, _CLUSTERS),
    _paper("dogs", "clustering accuracy", 0.079, _CLUSTERS),
    _paper("cars", "FID", 16.03, _QUALITY),
    _paper("cars", "Inception Score", 32.62, _SCORE),
    _paper("cars", "clustering NMI", 0.354, _CLUSTERS),
    _paper("cars", "clustering accuracy", 0.078, _CLUSTERS),
)
"""Only what was read at a source that can be named. MixNMatch's own tables, and the clustering
methods that FineGAN compares itself with, are left out: only text without them could be read."""


def table(data_set: str) -> tuple[Published, ...]:
    """The numbers on file for data of a kind; none for other kinds.

    A data set of the kind is not yet the whole of the published one, nor at its size: show them
    marked as published under another protocol.

    Args:
        data_set: Layout that the pictures came from, ``dataset.info.kind``.
    """
    return tuple(number for number in PUBLISHED if number.data_set == data_set)
