"""A model in MLflow's pyfunc form, without MLflow."""

from typing import Any

import pandas as pd
import pytest
from asking import encoded
from PIL import Image

from mixnmatch.errors import DataError, InputError
from mixnmatch.mixer import Mixer
from mixnmatch_platform.scoring import Scorer

UP, LEFT = (
    encoded(Image.linear_gradient("L").rotate(angle).convert("RGB"), "PNG") for angle in (0, 90)
)


def painted(mixer: Mixer, **columns: Any) -> list[bytes]:
    others = {"background": UP, "shape": UP, "texture": UP}
    return list(Scorer(mixer).predict(pd.DataFrame({**others, **columns}))["picture"])


def test_each_row_has_the_pose_that_it_gives_or_that_of_its_shape(mixer: Mixer) -> None:
    given, without, empty = painted(mixer, pose=[LEFT, UP, None])
    assert given != without
    assert without == empty
    assert painted(mixer, shape=[UP]) == [without]


def test_rows_are_named_in_what_is_wrong_with_them(mixer: Mixer) -> None:
    with pytest.raises(DataError, match=r"^pose of row 2: not a picture that can be read"):
        painted(mixer, pose=[None, LEFT, b"hello"])
    with pytest.raises(InputError, match="column shape is missing"):
        Scorer(mixer).predict(pd.DataFrame({"background": [UP], "texture": [UP]}))
