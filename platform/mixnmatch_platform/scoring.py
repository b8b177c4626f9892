"""A promoted model in MLflow's pyfunc form: rows of four picture files in, mixed pictures out.

MLflow imports this module from the model's own ``code`` folder, in processes that know nothing of
this platform: it must import nothing but the model and what that needs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from mixnmatch.mixer import Mixer

__all__ = ["COLUMNS", "PICTURE", "REQUIRED", "Scorer"]

COLUMNS = ("background", "pose", "shape", "texture")
"""Of the input: picture files as bytes."""
REQUIRED = ("background", "shape", "texture")
"""Those that each row must have; in a row without a pose it is the shape picture's."""
PICTURE = "picture"
"""Column of the output: PNG files as bytes."""


class Scorer:
    """What pyfunc calls.

    Args:
        mixer: Of the model.
    """

    def __init__(self, mixer: "Mixer") -> None:
        self.mixer = mixer

    def predict(
        self, model_input: "pd.DataFrame", params: dict[str, Any] | None = None
    ) -> "pd.DataFrame":
        """Mix the pictures of each row.

        Args:
            model_input: A column of picture files for each of ``COLUMNS``, ``pose`` if wished.
            params: ``mode``, ``code`` or ``feature``.

        Returns:
            One column, ``picture``, of PNG files.

        Raises:
            DataError: If a picture cannot be read.
            InputError: If the mode is neither, or a required column is not there.
            ModelError: For feature mode of a model without a shape extractor.
        """
        import pandas as pd

        from mixnmatch.data.pictures import encode_png
        from mixnmatch.errors import InputError
        from mixnmatch.sheets import to_picture

        mode = (params or {}).get("mode", "code")
        if mode not in ("code", "feature"):
            raise InputError(f"mode is {mode!r}: it must be code or feature")
        if lacking := [name for name in REQUIRED if name not in model_input]:
            raise InputError(f"column {lacking[0]} is missing: rows need {', '.join(REQUIRED)}")
        pictures = {name: self._read(model_input, name) for name in REQUIRED}
        pose = model_input.get("pose")
        if pose is None or pose.isna().all():
            pictures["pose"] = pictures["shape"]
        else:
            rows = model_input.assign(pose=pose.where(pose.notna(), model_input["shape"]))
            pictures["pose"] = self._read(rows, "pose")
        mixed = self.mixer.mix_tensors(**pictures, mode=mode)
        return pd.DataFrame({PICTURE: [encode_png(to_picture(image)) for image in mixed]})

    def _read(self, table: "pd.DataFrame", column: str) -> "Tensor":
        import torch

        from mixnmatch.data.pictures import decode_upright
        from mixnmatch.sheets import to_tensor

        side = self.mixer.image_size
        pictures = [
            decode_upright(bytes(data), f"{column} of row {number}", side)
            for number, data in enumerate(table[column])
        ]
        return torch.cat([to_tensor(picture, side) for picture in pictures])


def _load_pyfunc(data_path: str) -> Scorer:
    """What MLflow calls with the folder of the model's bundle."""
    from mixnmatch.mixer import Mixer

    return Scorer(Mixer.from_pretrained(Path(data_path)))
