"""Ctrl-C and SIGTERM as a wish to stop soon, not as an explosion in the middle of a step."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupts:
    """Inside `with Interrupts() as stop:`, `stop.signal` turns from 0 to the signal's number.

    A second Ctrl-C acts at once (KeyboardInterrupt). Outside the main thread nothing is caught.
    """

    signal = 0

    def __enter__(self) -> Self:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """0, or 130 after Ctrl-C and 143 after SIGTERM, as shells expect."""
        return 128 + self.signal if self.signal else 0
