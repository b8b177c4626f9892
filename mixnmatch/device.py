"""Which device to train and mix on, and how to use it well."""

import ctypes
import platform

import torch

from mixnmatch.errors import InputError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def choose_device(name: str) -> torch.device:
    """``auto`` takes a GPU where there is one.

    Raises:
        InputError: If the named device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r} is unknown: use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r} is not on this machine: use auto or cpu")
    return device


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether networks compute in bfloat16.

    Args:
        precision: ``float32``, ``bfloat16``, or ``auto``: on GPUs that multiply it natively. On a
            CPU runs are small and repeatable, and stay so unless asked.
        device: Where they are.
    """
    if precision != "auto":
        return precision == "bfloat16"
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones, for the rest of the process.

    By default it hands large blocks back to the system at once, which then fills the next ones with
    zeros, page by page: more time than the work on them takes. Elsewhere nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    if not libc.mallopt(_M_MMAP_THRESHOLD, 2**30):
        libc.mallopt(_M_MMAP_THRESHOLD, 2**25)  # the most that older versions accept
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
