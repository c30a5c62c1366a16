import os

import pytest


@pytest.fixture(autouse=True)
def unsynced_disk():
    """Skip the waiting for the disk; what syncs are for is shown on the model of power_loss.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
