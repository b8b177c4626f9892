"""What a data set would hold, told before it is drawn."""

from dataclasses import asdict, replace
from typing import Any

from mixnmatch.data.drawn.spec import TRAIN_SHARE, FactorSpec
from mixnmatch.data.factors import draw_factor_dataset
from mixnmatch.data.words import counted

_SAMPLE = 8


def preview(spec: FactorSpec) -> dict[str, Any]:
    """Numbers of a data set; the bytes are estimated from its first few pictures.

    Returns:
        ``spec``, ``pictures`` of each split (those of train and test as expected), ``factors``,
        ``chance`` of guessing each of them, ``background_given_texture`` (of the ``tied`` and of
        each ``other`` background, the number of textures ``sharing`` theirs, and the mutual
        information in ``bits``) and ``bytes``.
    """
    share = spec.background_texture_correlation
    other = (1 - share) / spec.backgrounds
    tied = [spec.tied_background(texture) for texture in range(spec.textures)]
    few = replace(spec, count=min(spec.count, _SAMPLE), judge_count=0)
    first = list(draw_factor_dataset(few))
    sizes = [len(record.image) + len(record.mask or b"") for record in first]
    train = round(TRAIN_SHARE * spec.count)
    return {
        "spec": asdict(spec),
        "pictures": {"train": train, "test": spec.count - train, "judge": spec.judge_count},
        "factors": spec.cardinalities,
        "chance": {name: 1 / count for name, count in spec.cardinalities.items()},
        "background_given_texture": {
            "tied": share + other,
            "other": other,
            "sharing": sum(tied.count(background) > 1 for background in tied),
            "bits": spec.mutual_information_bits(),
        },
        "bytes": round(sum(sizes) / len(sizes) * (spec.count + spec.judge_count)),
    }


def preview_text(out: str, told: dict[str, Any]) -> str:
    """The numbers of ``preview`` in lines for people.

    Args:
        out: Folder of the data set.
        told: What ``preview`` returns.
    """
    spec, pictures, given = told["spec"], told["pictures"], told["background_given_texture"]
    count = sum(pictures.values())
    lines = [
        f"{out}: {counted(count, 'picture')} of {spec['side']}x{spec['side']} px would be drawn, "
        f"about {told['bytes'] / 1e6:.1f} MB",
        f"split: about {pictures['train']} train and {pictures['test']} test, exactly "
        f"{pictures['judge']} judge",
    ]
    for name, categories in told["factors"].items():
        many = counted(categories, "category", "categories")
        lines.append(f"{name}: {many}, chance {told['chance'][name]:.1%}")
    if not spec["background_texture_correlation"]:
        lines.append(
            f"P(background | texture): {given['other']:.3f} for each, 0 bits of mutual information"
        )
    else:
        lines.append(
            f"P(background | texture): {given['tied']:.3f} for the tied one, {given['other']:.3f} "
            f"for each other, {given['bits']:.2f} bits of mutual information (judge: free)"
        )
        if given["sharing"]:
            lines.append(
                f"note: {given['sharing']} of {told['factors']['texture']} textures share their "
                "background: --backgrounds is less than the textures"
            )
    return "\n".join(lines)
