"""What is known of a finished cell, wherever it was kept."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass
class CellResult:
    """A finished cell. rows: one per fact, protocol and template; report: what the recipe really touched; record: key,
    what it depends on and what made it; of a cell out of the results of record also `recorded`, the study and file."""

    key: str
    rows: pd.DataFrame
    report: dict
    record: dict

    @property
    def recorded(self) -> dict | None:
        """Study and file of the results of record that it was read from; None for one of this machine's store."""
        return self.record.get("recorded")
