"""Progress in seconds, not in numbers: evaluations differ a hundredfold in cost, so each counts what it is expected to take."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tqdm.auto import tqdm

from kc_utils.study import estimate, record, store
from kc_utils.study.cells import Cell, grouped

FIRMNESS = 10.0
"""Seconds of measurement at which an estimate counts as much as what was measured."""
NOTEBOOK_S = 7.5
A_LOOK = 0.02
"""Share of the time that may be spent on looking at what is there."""


class Work:
    """What evaluations are expected to take, in seconds on one core, corrected by those that are stored on this machine."""

    def __init__(self, cells: Iterable[Cell]):
        self.expected: dict[Cell, float] = {}
        for group in grouped(cells).values():
            self.expected |= dict(zip(group, estimate.seconds(group), strict=True))
        self._measured: dict[str, list[float]] = {}

    def learn(self, cell: Cell) -> bool:
        """Take an evaluation that is stored on this machine into account; return whether it is."""
        if found := store.about(cell.key):
            seconds = sum(found["made"]["seconds"].values()) * found["made"]["threads"]
            own = self._measured.setdefault(cell.model, [0.0, 0.0])
            own[:] = own[0] + seconds, own[1] + self.expected[cell]
        return found is not None

    def left(self) -> list[Cell]:
        """Return the evaluations that are neither stored on this machine nor recorded, and learn from the stored ones."""
        return [cell for cell in self.expected if not self.learn(cell) and record.where(cell.key) is None]

    def speed(self, model: str | None = None) -> float:
        """Return the measured seconds by the expected ones, of a model or of all."""
        prior = self.speed() if model else 1.0
        mine = [self._measured.get(model, [0.0, 0.0])] if model else self._measured.values()
        measured, expected = (sum(own[i] for own in mine) for i in (0, 1))
        return (measured + FIRMNESS * prior) / (expected + FIRMNESS)

    def seconds(self, cells: Iterable[Cell]) -> float:
        """Return what these evaluations are expected to take on one core, as corrected."""
        speeds = {model: self.speed(model) for model in {cell.model for cell in self.expected}}
        return sum(speeds[cell.model] * self.expected[cell] for cell in cells)


class Progress:
    """One line on standard error: how much is done of some evaluations and notebooks, and how long the rest will take."""

    def __init__(self, name: str, work: Work, cells: Iterable[Cell], notebooks: Iterable[Path], jobs: int, here: bool = True):
        """cells: of the work, those that are to be computed; notebooks: files that are to be made; jobs: at a time; here: whether
        jobs run on this machine."""
        self.work, self.jobs, self.here = work, jobs, here
        self.cells, self.notebooks = dict.fromkeys(cells), dict.fromkeys(notebooks)
        self._bar = tqdm(total=1.0, desc=name, file=sys.stderr, bar_format="{desc}: {percentage:3.0f}%|{bar}|{postfix}")
        self._begin, self._shown, self._first = time.monotonic(), "", self._left()

    def look(self) -> float:
        """Look at what has been finished since, and return the seconds until it is worth looking again."""
        begin = time.monotonic()
        for cell in [c for c in self.cells if store.is_marked(c.key)]:
            self.work.learn(cell)
            del self.cells[cell]
        self.notebooks = {file: None for file in self.notebooks if not file.is_file()}
        left = self._left()
        done = time.monotonic() - self._begin
        if not self.here:  # jobs wait in a queue, too: as long as those before them
            left = max(left, done * (left / (self._first - left) if left < self._first else 1))
        of = len(self.work.expected)
        count = f"{of - len(self.cells)}/{of} evaluations"
        count += f", {len(self.notebooks)} notebooks left" if self.notebooks else ""
        if count != self._shown or sys.stderr.isatty():
            spent, rest = map(tqdm.format_interval, (done, left))
            self._bar.set_postfix_str(f"{count}, {spent} so far, about {rest} to go", refresh=False)
            self._bar.n, self._shown = done / (done + left) if left else 1.0, count
            self._bar.refresh()
        return max(1.0, (time.monotonic() - begin) / A_LOOK)

    def _left(self) -> float:
        return (self.work.seconds(self.cells) + NOTEBOOK_S * len(self.notebooks)) / self.jobs

    def __enter__(self):
        self.look()
        return self

    def __exit__(self, *_):
        self._bar.close()
