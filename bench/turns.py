"""Taking times by turns, and writing them as tables: for the comparisons with PyTorch."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

PAUSE = 0.02  # seconds: PyTorch's worker threads spin for a while before they sleep
ROUNDS = 3  # at the least


class Clock(AbstractContextManager):
    """Runs inside `with`; what a job does outside, to prepare, is not counted."""

    ms = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.ms += 1000 * (time.perf_counter() - self._start)


Job = Callable[[Clock], object]


def timed(work: Callable[[], object]) -> Job:
    """A job that needs no preparation."""

    def job(clock: Clock) -> None:
        with clock:
            work()

    return job


def repeated(work: Callable[[], object], wait: Callable[[], object], at_least: float = 0.02) -> Job:
    """A job whose work returns before it is done, on a GPU: as often as takes `at_least` seconds,
    then waited for. Its time is that of one. What is done at first, compiling, is done here."""

    def spell(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            work()
        wait()
        return time.perf_counter() - start

    spell(2)
    times = 1
    while (took := spell(times)) < at_least / 2:
        times = max(2 * times, int(times * at_least / max(took, 1e-6) / 2))

    def job(clock: Clock) -> None:
        with clock:
            for _ in range(times):
                work()
            wait()
        clock.ms /= times

    return job


def take_turns(
    jobs: Sequence[Job | None], seconds: float, pause: float = PAUSE
) -> NDArray[np.float64]:
    """Milliseconds: (rounds, jobs); nan where there is no job.

    In one round every job runs once, so that a slow moment of the machine hits all alike, in every
    other round from the last to the first, so that none always follows the same one. Before them
    comes a round that is not counted. Goes on for so many seconds, and for ROUNDS at least.
    """
    rounds: list[list[float]] = []
    turn, end = 0, float("inf")
    while turn <= ROUNDS or time.perf_counter() < end:
        times = [float("nan")] * len(jobs)
        for i in range(len(jobs)) if turn % 2 else reversed(range(len(jobs))):
            if (job := jobs[i]) is not None:
                time.sleep(pause)
                clock = Clock()
                job(clock)
                times[i] = clock.ms
        if turn:
            rounds.append(times)
        else:
            end = time.perf_counter() + seconds
        turn += 1
    return np.array(rounds)


def line(*cells: str) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def head(*cells: str) -> str:
    """The first two lines of a Markdown table."""
    return line(*cells) + "\n" + line(*["---"] * len(cells))


def number(value: float, bold: bool = False) -> str:
    """Three digits; - for nan."""
    text = "-" if np.isnan(value) else f"{value:.0f}" if value >= 100 else f"{value:#.3g}"
    return f"**{text}**" if bold else text
