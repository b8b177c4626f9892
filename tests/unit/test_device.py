import ctypes
import platform
from typing import Any

import pytest
import torch

from mixnmatch.device import choose_device, keep_freed_memory, uses_bfloat16
from mixnmatch.errors import InputError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_a_named_precision_is_taken(device: torch.device) -> None:
    assert uses_bfloat16("bfloat16", device)
    assert not uses_bfloat16("float32", device)


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bfloat16_on_gpus_where_it_is_native(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def supported(**options: Any) -> bool:
        asked.append(options)
        return native

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert not uses_bfloat16("auto", CPU)
    assert uses_bfloat16("auto", CUDA) == native
    assert asked == [{"including_emulation": False}]
    assert not uses_bfloat16("auto", torch.device("mps"))


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    for name in ("cuda", "cuda:3"):
        with pytest.raises(InputError, match=f"device '{name}' is not on this machine"):
            choose_device(name)
    with pytest.raises(InputError, match="device 'gpu' is unknown: use auto, cpu, cuda"):
        choose_device("gpu")


class Libc:
    """Notes what it is asked for; an old one refuses large thresholds."""

    def __init__(self, most: int = 2**31 - 1) -> None:
        self.most = most
        self.taken: dict[int, int] = {}

    def mallopt(self, option: int, value: int) -> int:
        if option == -3 and value > self.most:
            return 0
        self.taken[option] = value
        return 1


@pytest.mark.parametrize(("most", "threshold"), [(2**30, 2**30), (2**25, 2**25)])
def test_freed_memory_is_kept(most: int, threshold: int, monkeypatch: pytest.MonkeyPatch) -> None:
    libc = Libc(most)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libc)
    for _ in range(2):
        keep_freed_memory()
        assert libc.taken == {-3: threshold, -1: 2**31 - 1}


@pytest.mark.parametrize("library", ["", "musl", "libc"])
def test_other_libraries_are_left_alone(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: object) -> None:
        raise AssertionError("the library was opened")

    monkeypatch.setattr(platform, "libc_ver", lambda: (library, ""))
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    keep_freed_memory()


def test_memory_still_works_after_it() -> None:
    for _ in range(2):
        keep_freed_memory()
        large = [torch.ones(2**20) for _ in range(4)]
        assert sum(float(block.sum()) for block in large) == 2**22
