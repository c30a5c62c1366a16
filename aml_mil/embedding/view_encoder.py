"""All views of a batch: flips by the engine itself, shared augmentations before it.

V views, B images, S pixels a side, D… the shape of one image's features.
"""

from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from aml_mil.embedding.engines import Engine
from aml_mil.embedding.shared_views import SharedViews
from aml_mil.embedding.views import shared_kind


class ViewEncoder:
    """Encodes batches in every view of a store.

    Args:
        build: Makes an engine for views that it can make itself.
        views: Names of the views, in the order of the result.
        image_size_px: Side of the images.

    Attributes:
        num_at_once: Batches that its engine encodes at once.
    """

    def __init__(
        self,
        build: Callable[[tuple[str, ...]], Engine],
        *,
        views: tuple[str, ...],
        image_size_px: int,
    ) -> None:
        self._num_views = len(views)
        self._turn = Lock()
        kind = shared_kind(views)
        self._augment = None if kind is None else SharedViews(kind, image_size_px)
        self._engine = build(views[:1] if self._augment else views)
        self.num_at_once = self._engine.num_at_once

    def encode(self, images: NDArray[np.uint8], patient_ids: Sequence[str]) -> NDArray[np.float32]:
        """Encode a batch.

        Args:
            images: [B, S, S, 3] RGB; B the same in every call.
            patient_ids: Whose the first images are; the others belong to nobody.

        Returns:
            Features, [V, B, D…].
        """
        features = self._engine.encode(images)
        if self._augment is None:
            return features
        with self._turn:  # the augmentation has one state
            viewed = [
                self._engine.encode(self._augment(images, patient_ids, view=view))
                for view in range(1, self._num_views)
            ]
        return np.concatenate([features, *viewed])
