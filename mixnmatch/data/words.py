"""Counts in words."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 picture", "2000 pictures", "3 classes".

    Args:
        number: Of them.
        noun: For one of them.
        plural: For several; by default with an s.
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
