"""How messages and notes write names and numbers."""

from collections.abc import Iterable


def listed(names: Iterable[str], most: int = 5) -> str:
    """Write names in quotes, and how many more there are.

    Examples
    --------
    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    every = list(names)
    shown = ", ".join(f"'{name}'" for name in every[:most])
    return f"{shown} and {len(every) - most:,} more" if len(every) > most else shown


def counted(number: int, thing: str) -> str:
    """Write a number with its noun.

    Examples
    --------
    >>> counted(1, "image"), counted(5206, "image"), counted(2, "class")
    ('1 image', '5,206 images', '2 classes')
    """
    plural = f"{thing}es" if thing.endswith(("s", "x")) else f"{thing}s"
    return f"{number:,} {thing if number == 1 else plural}"
