"""A progress bar on stderr for loops that may take longer than a user likes to wait blindly."""

from collections.abc import Collection, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(items: Collection[T], what: str) -> Iterator[T]:
    """The items one by one; a bar that says `what` appears once they have taken two seconds.

    Nothing is drawn where stderr is not a terminal, and the bar goes away when it is done.
    """
    from tqdm import tqdm

    yield from tqdm(items, desc=what, delay=2, leave=False, disable=None)
