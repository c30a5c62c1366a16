"""The torch engine: uint8 batches of one fixed size in, features of every view out.

V views, B images, S pixels a side, D… the shape of one image's features.
"""

import copy
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aml_mil.embedding.config import EnginePrecision
from aml_mil.embedding.cuda_graph import CudaGraphs
from aml_mil.embedding.errors import EngineError
from aml_mil.embedding.folding import fold_batch_norms
from aml_mil.embedding.views import view_images
from aml_mil.encoders import Encoder
from aml_mil.runtime import PRECISION_DTYPES

logger = logging.getLogger(__name__)

# One engine of the process encodes at a time, and none while a module is traced for folding:
# tracing replaces what a call of any module does, in every thread.
_TURN = Lock()


class TorchEngine:
    """An encoder made ready for one device and precision.

    An image's features depend on the image alone, not on its place in the batch or on what else
    is in it, because every batch has the same shape: short ones are padded by the caller. Where
    the device has too little memory for a batch, it is encoded in halves from then on; kernels
    chosen for another shape may round the last bits in another way.

    Args:
        encoder: Left as it is; the engine works on a copy.
        device: Where to encode.
        precision: Of the convolutions and products; normalisation layers keep float32.
        views: Names of the views, in the order of the result.
        threads: Of torch while it encodes: how sums are split shows in the last bits. As many as
            torch has if not given.
        is_folded: Fold batch normalisations into the convolutions before them.
        compile_for: Compile for batches of so many images, at once; kernels are not compiled
            if not given.

    Attributes:
        num_at_once: 1.
        num_halvings: How often the memory of the device was too small for as many images at once.

    Raises:
        EngineError: The encoder cannot be compiled here.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        device: torch.device,
        precision: EnginePrecision,
        views: tuple[str, ...],
        threads: int | None = None,
        is_folded: bool = False,
        compile_for: int | None = None,
    ) -> None:
        self.num_at_once = 1
        self.num_halvings = 0
        self._device = device
        self._threads = threads
        self._dtype = PRECISION_DTYPES[precision]
        self._views = views
        module = copy.deepcopy(encoder.module)
        if is_folded:
            with _TURN:
                fold_batch_norms(module)
        module = module.to(device=device, dtype=self._dtype)
        for layer in module.modules():
            # Running variances lose too much in 8 bits; the kernels take mixed types.
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.float()
        self._module = module.to(memory_format=torch.channels_last)
        self._mean = torch.tensor(encoder.mean, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(encoder.std, device=device).view(1, 3, 1, 1) * 255
        is_cuda = device.type == "cuda"
        self._compute = CudaGraphs(self._features, device) if is_cuda else self._features
        if compile_for is not None:
            self._compile(encoder, batch_size=compile_for)

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode a batch; threads take turns.

        Args:
            images: [B, S, S, 3] RGB; B the same in every call.

        Returns:
            Features, [V, B, D…].
        """
        with (
            _TURN,
            torch.inference_mode(),
            _exact_arithmetic(self._device),
            _with_threads(self._threads),
        ):
            return self._encode_parts(images)

    def _compile(self, encoder: Encoder, *, batch_size: int) -> None:
        options: dict[str, Any] = {"freezing": True} if self._device.type == "cpu" else {}
        self._module.compile(dynamic=False, options=options)
        size_px = encoder.image_size_px
        try:
            self.encode(np.zeros((batch_size, size_px, size_px, 3), dtype=np.uint8))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            message = f"torch cannot compile {encoder.name}: {reason}; leave out --compile"
            raise EngineError(message) from error

    def _encode_parts(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode in as many parts as the memory of the device asks for, from now on."""
        num = max(len(images) >> self.num_halvings, 1)
        try:
            parts = [
                self._encode_part(images[start : start + num], num)
                for start in range(0, len(images), num)
            ]
        except torch.OutOfMemoryError:
            if num == 1:
                raise
        else:
            return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        # Outside of the except clause: there the error would keep the tensors alive.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self.num_halvings += 1
        logger.warning("out of memory on %s: at most %d images at a time", self._device, num // 2)
        return self._encode_parts(images)

    def _encode_part(self, images: NDArray[np.uint8], num: int) -> NDArray[np.float32]:
        """Encode images, padded to one shape; see `encode`."""
        padded = images
        if len(images) < num:
            padded = np.zeros((num, *images.shape[1:]), dtype=np.uint8)
            padded[: len(images)] = images
        features: NDArray[np.float32] = self._compute(torch.from_numpy(padded)).cpu().numpy()
        return features[:, : len(images)]

    def _features(self, images: Tensor) -> Tensor:
        """Encode [B, S, S, 3] uint8 in all views, on the device; gives [V, B, D…] float32."""
        pixels = images.permute(0, 3, 1, 2).float()
        normalised = ((pixels - self._mean) / self._std).to(self._dtype)
        features = [self._module(view_images(normalised, view)) for view in self._views]
        return torch.stack(features).float()


@contextmanager
def _with_threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _exact_arithmetic(device: torch.device) -> AbstractContextManager[object]:
    """Keep CUDA from choosing kernels by timing them, and from rounding float32 to TF32."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
