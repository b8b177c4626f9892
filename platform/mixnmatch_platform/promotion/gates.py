"""Gates: what a model must have measured before it may be promoted."""

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from mixnmatch.errors import InputError
from mixnmatch.metrics.protocol import PROTOCOLS

__all__ = ["Gates", "Requirement", "Verdict", "judge", "judge_protocol", "read_gates", "refuse"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What one gate said."""

    gate: str
    """Its name."""
    passed: bool
    """Whether the model may go on."""
    said: str
    """What was found and what was wanted."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """A figure and its bound."""

    metric: str
    """Its name."""
    sign: Literal[">=", "<="]
    """On which side of the bound it must be."""
    bound: float | None
    """None is the chance level: then the whole 95 % interval must be beyond it."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``fid_5k <= 20`` or ``accuracy/shape >= chance``.

        Raises:
            InputError: If it is neither.
        """
        match = re.fullmatch(r"\s*([\w/.-]+)\s*(>=|<=)\s*(\S+)\s*", text)
        bound = None
        try:
            if match is None:
                raise ValueError
            if match[3] != "chance" and not math.isfinite(bound := float(match[3])):
                raise ValueError
        except ValueError:
            raise InputError(
                f"requirement {text!r}: write METRIC<=NUMBER, METRIC>=NUMBER or METRIC>=chance"
            ) from None
        return cls(match[1], match[2], bound)  # type: ignore[arg-type]

    def judge(self, metrics: Mapping[str, float]) -> Verdict:
        """Look at the figures of a model."""
        gate = f"{self.metric} {self.sign} {'chance' if self.bound is None else f'{self.bound:g}'}"
        value = metrics.get(self.metric)
        if value is None or math.isnan(value):
            return Verdict(gate=gate, passed=False, said=f"{self.metric} was not measured")
        more = self.sign == ">="
        if self.bound is not None:
            passed = value >= self.bound if more else value <= self.bound
            said = f"{self.metric} is {value:.4g}, wanted is {self.sign} {self.bound:g}"
            return Verdict(gate=gate, passed=passed, said=said)
        chance = metrics.get(f"chance/{self.metric}")
        end = metrics.get(f"{'low' if more else 'high'}/{self.metric}")
        if chance is None or end is None:
            said = f"{self.metric} has no known chance level or interval"
            return Verdict(gate=gate, passed=False, said=said)
        passed = end > chance if more else end < chance
        said = (
            f"{self.metric} is {value:.4g}, its 95 % interval {'begins' if more else 'ends'} at "
            f"{end:.4g}, chance is {chance:.4g}"
        )
        return Verdict(gate=gate, passed=passed, said=said)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gates:
    """What is wanted of a model beside being whole and better than the champion."""

    require: tuple[Requirement, ...] = ()
    """Figures with their bounds."""
    protocol: str | None = None
    """Name of the protocol that its figures must be measured under."""
    samples: int = 0
    """Fewest samples that they must rest on."""
    licence: bool = False
    """Whether its card must name a licence."""
    data_licence: bool = False
    """Whether its card must name the licence of its data."""

    def __post_init__(self) -> None:
        if self.protocol is not None and self.protocol not in PROTOCOLS:
            raise InputError(
                f"gate protocol is {self.protocol!r}: it must be one of {', '.join(PROTOCOLS)}"
            )
        if self.samples < 0:
            raise InputError(f"gate samples is {self.samples}: it must be at least 0")


def read_gates(file: Path | None, require: Sequence[str] = ()) -> Gates:
    """Gates of a TOML file, and of requirements beside it.

    Raises:
        InputError: If the file cannot be read, has unknown keys or values of a wrong kind.
    """
    extra = tuple(map(Requirement.parse, require))
    if file is None:
        return Gates(require=extra)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"gates {file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"gates {file} is no TOML: {error}") from error
    kinds: dict[str, type[Any]] = {
        "require": list,
        "protocol": str,
        "samples": int,
        "licence": bool,
        "data_licence": bool,
    }
    for key, value in content.items():
        if key not in kinds:
            raise InputError(f"gates {file} has {key!r}: known are {', '.join(kinds)}")
        if type(value) is not kinds[key]:
            raise InputError(f"gates {file}: {key} must be a {kinds[key].__name__}")
    wanted = content.pop("require", [])
    if not all(isinstance(each, str) for each in wanted):
        raise InputError(f"gates {file}: require must be a list of texts such as 'fid_5k <= 20'")
    try:
        gates = Gates(**content, require=tuple(map(Requirement.parse, wanted)))
    except InputError as error:
        raise InputError(f"gates {file}: {error}") from error
    return replace(gates, require=gates.require + extra)


def judge(
    gates: Gates,
    metrics: Mapping[str, float],
    *protocols: Mapping[str, Mapping[str, Any]] | None,
    licence: str | None = None,
    data_licence: str | None = None,
) -> list[Verdict]:
    """What the gates say of a model.

    Args:
        gates: The gates.
        metrics: Its figures.
        protocols: The ways they were measured, None for one that was not recorded; all must pass.
        licence: Of the model, where its card names one.
        data_licence: Of its data.
    """
    verdicts = [requirement.judge(metrics) for requirement in gates.require]
    for protocol in protocols:
        verdicts += judge_protocol(gates, protocol)
    for gate, wanted, given in (
        ("licence", gates.licence, licence),
        ("data licence", gates.data_licence, data_licence),
    ):
        if wanted:
            said = given or f"the card would name no {gate}: give --{gate.replace(' ', '-')}"
            verdicts.append(Verdict(gate=gate, passed=given is not None, said=said))
    return verdicts


def judge_protocol(gates: Gates, protocol: Mapping[str, Mapping[str, Any]] | None) -> list[Verdict]:
    """What the gates say of a way to measure; None is one that was not recorded."""
    generated = (protocol or {}).get("generated", {})
    name, samples = generated.get("protocol"), generated.get("samples")
    verdicts = []
    if gates.protocol is not None:
        found = f"{name or 'none that has a name'}" + (f", {samples:,} samples" if samples else "")
        said = f"measured under {found}, wanted is {gates.protocol}"
        verdicts.append(Verdict(gate="protocol", passed=name == gates.protocol, said=said))
    if gates.samples:
        said = (
            f"measured on {samples or 'an unknown number of'} samples, wanted are {gates.samples}"
        )
        passed = (samples or 0) >= gates.samples
        verdicts.append(Verdict(gate="samples", passed=passed, said=said))
    return verdicts


def refuse(title: str, verdicts: Sequence[Verdict]) -> None:
    """Say which gates keep a model out.

    Raises:
        InputError: Naming all of them, with what was found and what was wanted.
    """
    failed = [f"gate {v.gate}: {v.said}" for v in verdicts if not v.passed]
    if failed:
        raise InputError(f"{title} is not promoted: {'; '.join(failed)}")
