"""Labels in words, and the numbers of their classes."""

from collections.abc import Sequence

from suture.errors import DataError


def places_of(place: str, raw: Sequence[str], names: Sequence[str], label: str) -> list[int]:
    """Return the classes' places of a file's labels, which are read in one way: as names, else as numbers."""
    by_name, by_number = ({value: number for number, value in enumerate(values)} for values in (names, map(str, range(len(names)))))
    found = set(raw)
    for reading in (by_name, by_number):
        if found <= reading.keys():
            return [reading[value] for value in raw]
    # Labels that are numbers but for a few are meant as numbers, so that the few are named.
    likely = max((by_name, by_number), key=lambda reading: sum(value in reading for value in raw))
    number, wrong = next((number, value) for number, value in enumerate(raw, 1) if value not in likely)
    raise DataError(
        f"{place}, row {number}: column {label!r} holds {wrong!r}; the classes are {', '.join(names)} "
        f"(or all labels of the file are their numbers, 0 to {len(names) - 1})"
    )


def numbers_first(label: str) -> tuple[bool, int, str]:
    """Sort 2 before 10, and numbers before words."""
    return (False, int(label), "") if label.isdecimal() else (True, 0, label)
