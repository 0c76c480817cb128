"""How an amount is divided between people."""


def split_evenly(cents: int, people: int) -> list[int]:
    """Return what each of `people` pays of `cents`."""
    if people < 1:
        raise ValueError("a bill is shared by at least one person")
    return [cents // people] * people
