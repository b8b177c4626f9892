"""What errors may say."""

import argparse

import pytest

from mixnmatch.cli import run_program
from mixnmatch.errors import InputError


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("postgresql://ann:pa:ss@db:5432/mlflow", "postgresql://…@db:5432/mlflow"),
        ("https://token@host/a@b", "https://…@host/a@b"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
    ],
)
def test_no_password_is_printed(
    address: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: argparse.Namespace) -> int:
        raise InputError(f"the store {address} cannot be used")

    parser = argparse.ArgumentParser(prog="program")
    parser.set_defaults(run=run)
    assert run_program(parser, []) == 2
    assert capsys.readouterr().err == f"program: error: the store {told} cannot be used\n"
