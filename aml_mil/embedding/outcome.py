"""What the passes of a run did, in a form that processes can send each other."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from aml_mil.cohort import FileHashes
from aml_mil.embedding.records import ChangedPatient, FailedPatient, QuarantinedCell


@dataclass(slots=True, kw_only=True)
class Encoded:
    """What was embedded.

    Attributes:
        committed: Patient id → number of cells in its bag.
        taken: The same for patients that another process committed in the meantime.
        failed: Patients that could not become a bag.
        quarantined: Damaged files of patients in `committed` or `taken`.
        hashes: Patient id → usable files, of patients in `committed` or `taken`.
        seconds: How long it took.
    """

    committed: dict[str, int] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    failed: list[FailedPatient] = field(default_factory=list)
    quarantined: list[QuarantinedCell] = field(default_factory=list)
    hashes: dict[str, FileHashes] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def num_patients(self) -> int:
        """Patients that are done with."""
        return len(self.committed) + len(self.taken) + len(self.failed)

    def add(self, other: "Encoded") -> None:
        """Take in what another process did at the same time."""
        self.committed |= other.committed
        self.taken |= other.taken
        self.failed += other.failed
        self.quarantined += other.quarantined
        self.hashes |= other.hashes
        self.seconds = max(self.seconds, other.seconds)


@dataclass(slots=True, kw_only=True)
class Checked:
    """What was compared with the files as they are now.

    Attributes:
        changed: Patients whose bag does not fit, and why.
        cells: Patient id → number of cells in its bag.
        quarantined: Damaged files, as the bags record them.
        hashes: Patient id → files that are not quarantined.
    """

    changed: list[ChangedPatient] = field(default_factory=list)
    cells: dict[str, int] = field(default_factory=dict)
    quarantined: list[QuarantinedCell] = field(default_factory=list)
    hashes: dict[str, FileHashes] = field(default_factory=dict)

    def add(self, other: "Checked") -> None:
        """Take in what another process did."""
        self.changed += other.changed
        self.cells |= other.cells
        self.quarantined += other.quarantined
        self.hashes |= other.hashes


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a process did about one store: missing patients, those there, and changed ones."""

    embedded: Encoded
    checked: Checked
    refreshed: Encoded

    def add(self, other: "Outcome") -> None:
        """Take in what another process did."""
        self.embedded.add(other.embedded)
        self.checked.add(other.checked)
        self.refreshed.add(other.refreshed)


def combine(outcomes: Sequence[Outcome]) -> Outcome:
    """Put together what all processes did."""
    first, *others = outcomes
    for other in others:
        first.add(other)
    return first
