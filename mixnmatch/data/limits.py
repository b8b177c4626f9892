"""Thresholds of the verdict on a data set, each with its reason.

What is known: the paper trained on 11,788 birds of 200 kinds (CUB), 12,000 dogs of 120 and 8,000
cars of 196. Users of its code failed with 300 pictures. Where a threshold is not from there, its
reason says what it is from.
"""

from typing import Literal, NamedTuple

from mixnmatch.data.check import LARGE_FACTOR
from mixnmatch.networks.discriminators import PATCH_MAP

Grade = Literal["good", "usable with care", "will not work"]
GRADES: tuple[Grade, ...] = ("good", "usable with care", "will not work")
"""From the best to the worst."""
SMALLEST_IMAGE = 32
"""Side of the pictures of the smallest model, in pixels."""


class Limit(NamedTuple):
    """A threshold of the verdict."""

    name: str
    """What is measured."""
    unit: Literal["pictures", "share"]
    """Of the value."""
    least: bool
    """Whether values are to be at least what is given, or at most."""
    good: float
    """From here the data set is good."""
    works: float | None
    """Beyond this it will not work; None: it never fails for this."""
    reason: str
    """Where the thresholds are from."""
    remedy: str
    """What to do."""

    def grade(self, value: float) -> Grade:
        """What a value means."""
        sign = 1 if self.least else -1
        if sign * value >= sign * self.good:
            return "good"
        if self.works is None or sign * value >= sign * self.works:
            return "usable with care"
        return "will not work"


LIMITS = {
    "training": Limit(
        "different pictures to train on",
        "pictures",
        True,
        2000.0,
        600.0,
        "600 are ten fine categories of 60 pictures each, and twice what users of the original "
        "failed with; from 2,000 because good adversarial training is known from a few thousand "
        "pictures, if they are augmented (arXiv 2006.06676)",
        "add pictures",
    ),
    "unusable": Limit(
        "pictures that cannot be used",
        "share",
        False,
        0.0,
        0.0,
        "training stops at the first picture that cannot be read, and learns from a bad box what "
        "is none; ingestion leaves both out, so the folder was damaged or written by another hand",
        "run mixnmatch data ingest again",
    ),
    "free": Limit(
        "background patches free of the object",
        "share",
        True,
        0.10,
        0.01,
        f"the background discriminator learns what is real from these alone of the {PATCH_MAP}x"
        f"{PATCH_MAP} patches of each picture; CUB's birds leave 14% free on average, and the "
        "model works on them; with 1% a batch of 12 has 69, less than three edge rows of one "
        "picture",
        "take pictures with more around the object, or boxes that are tighter",
    ),
    "enlarged": Limit(
        f"object views enlarged more than {LARGE_FACTOR} times",
        "share",
        False,
        0.25,
        None,
        "less than a quarter of such a view's pixels are the photograph's; where many are, blur is "
        "what looks real",
        "train a smaller model, or take larger pictures",
    ),
    "too_small": Limit(
        f"the same for the smallest model, of {SMALLEST_IMAGE} px",
        "share",
        False,
        0.25,
        0.5,
        "no model is smaller: where this is so of most pictures, they have no shape to learn",
        "take larger pictures",
    ),
    "grey": Limit(
        "greyscale pictures",
        "share",
        False,
        0.05,
        None,
        "grey becomes a texture of its own; one in twenty is our judgement",
        "leave them out, or make all of them grey",
    ),
    "several": Limit(
        "pictures of several objects",
        "share",
        False,
        0.20,
        None,
        "the other objects count as background, which then paints objects; a fifth is our "
        "judgement, not measured",
        "leave them out with --objects refuse when ingesting",
    ),
    "evenness": Limit(
        "evenness of the classes",
        "share",
        True,
        0.5,
        None,
        "exp(entropy) of the classes by their number: 100% where all are of one size; training "
        "draws all categories equally often, so at half of it half of them have too little to "
        "learn from (our judgement)",
        "leave out some pictures of the largest classes, or add to the small ones",
    ),
    "repeated": Limit(
        "pictures that are there already",
        "share",
        False,
        0.05,
        None,
        "they count more than others and add nothing; one in twenty is our judgement",
        "leave them out",
    ),
    "shared": Limit(
        "test pictures that are trained on, too",
        "share",
        False,
        0.01,
        None,
        "figures of the test split then speak of pictures learnt by heart; 1% is about what a "
        "test on 2,000 pictures cannot see (one standard error)",
        "leave them out of one split",
    ),
    "rejects": Limit(
        "pictures that ingestion left out",
        "share",
        False,
        0.10,
        None,
        "where one in ten cannot be used, the way the source was read is perhaps wrong (our "
        "judgement)",
        "look at the reasons, and at --format",
    ),
}
"""Thresholds by the name of their value, in the order of the report."""
