import shutil
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from random_inception import save_random_inception

from mixnmatch.errors import ModelError
from mixnmatch.files import checksum
from mixnmatch.metrics import weights as finding
from mixnmatch.metrics.weights import (
    VARIABLE,
    InceptionWeights,
    extractor_name,
    find_weights,
    hub_file,
)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_inception(tmp_path_factory.mktemp("inception") / "weights.pth")


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's hub, and no download that a test does not expect."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "download_url_to_file", unexpected)
    return tmp_path / "torch" / "hub"


def unexpected(*_: Any, **__: Any) -> None:
    raise AssertionError("nothing is to be downloaded")


def test_nothing_there_is_nothing_measured() -> None:
    for setting in (None, "auto"):
        assert find_weights(setting) is None
        assert extractor_name(setting) is None


def test_other_weights_are_named_by_what_they_are(state: Path) -> None:
    found = find_weights(str(state))
    assert found == InceptionWeights(state, checksum(state))
    assert found.name == extractor_name(str(state)) == f"inception_{checksum(state)[:8]}"


def test_only_the_fid_weights_are_called_inception() -> None:
    fid = InceptionWeights(Path("any"), "6726825d0af5f729cebd5821db510b11")
    assert fid.name == "inception"
    assert InceptionWeights(Path("any"), "6726825e").name == "inception_6726825e"


@pytest.mark.parametrize("setting", ["auto", "download"])
def test_the_variable_comes_before_the_hub_cache(
    setting: str, state: Path, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub_file() == hub / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    hub_file().parent.mkdir(parents=True)
    shutil.copy(state, hub_file())
    found = find_weights(setting)
    assert found is not None
    assert found.path == hub_file()
    monkeypatch.setenv(VARIABLE, str(state))
    found = find_weights(setting)
    assert found is not None
    assert found.path == state
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone.pth"))
    for look in (find_weights, extractor_name):
        with pytest.raises(ModelError, match=r"gone\.pth: no such file; `fid` needs"):
            look(setting)


@pytest.mark.parametrize("look", [find_weights, extractor_name])
def test_a_named_file_must_hold_weights(look: Callable[[str], object], tmp_path: Path) -> None:
    path = tmp_path / "text.pth"
    for make in (lambda: None, path.mkdir):
        make()
        with pytest.raises(ModelError, match=r"text\.pth: no such file"):
            look(str(path))
    path.rmdir()
    path.write_text("hello")
    with pytest.raises(ModelError, match=r"text\.pth: not the FID Inception weights"):
        look(str(path))


def test_a_file_that_changes_is_looked_at_again(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    shutil.copy(state, path)
    assert find_weights(str(path)) is not None
    path.write_text("hello")
    with pytest.raises(ModelError, match="not the FID Inception weights"):
        find_weights(str(path))


def test_a_download_lies_in_the_hub_cache(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(url: str, dst: str, hash_prefix: str, progress: bool) -> None:
        asked.append((url, hash_prefix))
        shutil.copy(state, dst)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    assert extractor_name("download") == "inception"
    assert asked == []  # a name costs no download
    found = find_weights("download")
    assert found is not None
    assert found.path == hub_file()
    assert asked == [(finding.URL_INCEPTION_V3, "6726825d")]
    assert find_weights("download") == find_weights("auto") == found
    assert len(asked) == 1


@pytest.mark.parametrize(
    "failure",
    [
        urllib.error.URLError("Temporary failure in name resolution"),
        RuntimeError('invalid hash value (expected "6726825d", got "00")'),
        PermissionError(13, "Permission denied"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_line(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ModelError) as caught:
        find_weights("download")
    message = str(caught.value)
    assert message.startswith(finding.URL_INCEPTION_V3)
    assert str(failure) in message
    assert f"put that file at {hub_file()}" in message
    assert "\n" not in message
