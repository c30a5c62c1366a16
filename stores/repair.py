"""Make a damaged store whole again: what cannot be trusted goes, and can be embedded again.

Dropped are bags that fail ``verify_store`` twice, and what dead writers left under ``.tmp``. The
folders and group documents around the bags are written anew where they are damaged. The manifest
cannot be repaired: nothing else says how the features were made.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stores import files
from stores.base import FeatureStore
from stores.documents import JSON
from stores.errors import BagDamagedError, BagNotFoundError
from stores.local_store import STAGING_DIR
from stores.location import is_url
from stores.open import write_frame
from stores.place import BAGS_DIR
from stores.verify import VerifyRecord, verify_bag, verify_store

STAGED = re.compile(r"(?P<host>.+)-(?P<process>[0-9]+)-[0-9a-f]{16}(\.partial)?")

Action = Literal["intact", "dropped", "rewritten", "removed", "kept"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairRecord:
    """What was done about one thing.

    Attributes:
        what: ``bag``, ``frame`` (what lies around the bags) or ``temporary``.
        name: Id of the bag, or name of the file or folder.
        action: ``intact``: a bag stays as it is; ``dropped``: it is gone; ``rewritten``: the frame
            is whole again; ``removed``, ``kept``: a temporary is gone, or left to its writer.
        reason: Why; empty for an intact bag.
    """

    what: Literal["bag", "frame", "temporary"]
    name: str
    action: Action
    reason: str


def repair_store(
    store: FeatureStore,
    *,
    all_temporaries: bool = False,
    dry_run: bool = False,
    num_threads: int | None = None,
) -> Iterator[RepairRecord]:
    """Drop damaged bags and stray temporaries; intact bags are not touched.

    Writers may be at work meanwhile. What was done is appended to the store's log.

    Args:
        store: What to repair.
        all_temporaries: Remove the temporaries of other hosts and of living processes as well; a
            writer at work would fail with an error, so only where there is none.
        dry_run: Say what would be done, and do nothing.
        num_threads: As for ``verify_store``.

    Yields:
        A record for the frame if it is damaged, one per bag in the order of the ids, then one per
        temporary.

    Raises:
        OSError: the store cannot be written.
        StoreVersionError: a newer release wrote a bag; nothing of it is dropped.
    """
    is_local = not is_url(store.path)
    if is_local and not (store.path / BAGS_DIR).is_dir():
        yield _frame(store, f"the folder {BAGS_DIR}/ is missing", dry_run=dry_run)
        if dry_run:
            return
    for record in verify_store(store, num_threads=num_threads):
        if record.error is None:
            yield RepairRecord(what="bag", name=record.bag_id, action="intact", reason="")
        elif not record.bag_id:
            yield _frame(store, record.error, dry_run=dry_run)
        else:
            yield _drop(store, record, dry_run=dry_run)
    if is_local:  # at a URL there are none
        yield from _temporaries(store, all_temporaries=all_temporaries, dry_run=dry_run)


def _frame(store: FeatureStore, reason: str, *, dry_run: bool) -> RepairRecord:
    if not dry_run:
        with files.noting(f"while rewriting what lies around the bags of {store.path}"):
            write_frame(store.path, type(store))
        _log(store, "rewritten", "frame", reason)
    return RepairRecord(what="frame", name=store.path.name, action="rewritten", reason=reason)


def _drop(store: FeatureStore, record: VerifyRecord, *, dry_run: bool) -> RepairRecord:
    """Look at a bag once more, as a disk may err and a writer replace it, and drop it."""
    bag_id = record.bag_id
    try:
        verify_bag(store, bag_id)
    except BagNotFoundError:
        return _dropped(bag_id, "it was deleted meanwhile")
    except BagDamagedError as error:
        if not dry_run:
            with suppress(BagNotFoundError):
                store.delete(bag_id)
            _log(store, "dropped", bag_id, error.reason)
        return _dropped(bag_id, error.reason)
    return RepairRecord(what="bag", name=bag_id, action="intact", reason="")


def _dropped(bag_id: str, reason: str) -> RepairRecord:
    return RepairRecord(what="bag", name=bag_id, action="dropped", reason=reason)


def _temporaries(
    store: FeatureStore, *, all_temporaries: bool, dry_run: bool
) -> Iterator[RepairRecord]:
    staging = store.path / STAGING_DIR
    for path in sorted(staging.iterdir()) if staging.is_dir() else ():
        reason = _why_dead(path.name)
        if reason is None and not all_temporaries:
            reason = "its writer may be at work, on this host or another"
            yield RepairRecord(what="temporary", name=path.name, action="kept", reason=reason)
            continue
        reason = reason or "all temporaries were to go"
        action: Action = "removed"
        if not (dry_run or _is_removed(path)):
            action, reason = "kept", "it cannot be removed; see who owns it"
        yield RepairRecord(what="temporary", name=path.name, action=action, reason=reason)


def _why_dead(name: str) -> str | None:
    """Say how it is known that the writer of a temporary lives no more; None if it is not."""
    match = STAGED.fullmatch(name)
    if match is None or match["host"] != socket.gethostname():
        return None
    try:
        os.kill(int(match["process"]), 0)  # asks only whether there is such a process
    except (ProcessLookupError, OverflowError):
        return f"process {match['process']} of this host lives no more"
    except PermissionError:
        pass  # somebody else's
    return None


def _is_removed(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        files.remove_dir(path)
    else:
        with suppress(OSError):
            path.unlink()
    return not path.is_symlink() and not path.exists()


def _log(store: FeatureStore, action: str, name: str, reason: str) -> None:
    event: dict[str, JSON] = {"event": "repair", "action": action, "name": name, "reason": reason}
    store.log(event)
