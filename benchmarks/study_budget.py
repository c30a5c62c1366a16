"""How large a study is: every flag that differs from the commands' defaults, in one place.

The defaults are the paper's recipe, so that the full budget says little.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SSL_METHODS = ("simclr", "swav", "dino")
DEFAULT_SIZE_PX = 144


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """A variant of the heads: its name, and what `fit-mil` is told."""

    name: str
    flags: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Flags of every stage's command; "" for its defaults.

    Attributes:
        num_folds: Stratified folds of the patients.
        ssl_folds: Folds for which encoders are pre-trained, from 0; with fewer than all, their
            heads are compared on these folds alone.
        simclr: Of `pretrain simclr`.
        swav: Of `pretrain swav`.
        dino: Of `pretrain dino`.
        supervised: Of `pretrain supervised`.
        image_size_px: Side of the images for encoders that do not learn here.
        heads: Of `fit-mil`; the first are the paper's.
        maps: Of `fit-mil`, further, for heads of maps and of the vectors beside them.
        stain: Of `embed`, for cells whose colour is normalised; "" leaves these out.
        colour: Of `embed`, for bags whose stain changes while heads learn; "" leaves these out.
        giga: Of `giga-ssl`.
        probe: Of `probe`.
        stress: Of `stress`.
        mil: Of `benchmarks.mil_benchmarks`.
    """

    num_folds: int = 5
    ssl_folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    simclr: str = ""
    swav: str = ""
    dino: str = ""
    supervised: str = ""
    image_size_px: int = DEFAULT_SIZE_PX
    heads: tuple[Heads, ...] = (
        Heads(name="paper"),
        Heads(name="standardized", flags="--standardize --lr 0.003 --dropout 0.3"),
    )
    maps: str = ""
    stain: str = "--stain patient"
    colour: str = "--views colour:3"
    giga: str = ""
    probe: str = ""
    stress: str = ""
    mil: str = ""

    def flags(self, stage: str) -> tuple[str, ...]:
        """Return the flags of a stage, word by word."""
        text: str = getattr(self, stage)
        return tuple(text.split())

    def size_px(self, stage: str) -> int:
        """Side of the images that an encoder of this stage is trained on."""
        words = self.flags(stage)
        flag = "--image-size"
        return int(words[words.index(flag) + 1]) if flag in words else DEFAULT_SIZE_PX

    @property
    def is_ssl_of_all_folds(self) -> bool:
        """Whether every fold has encoders of its own."""
        return self.ssl_folds == tuple(range(self.num_folds))


# Two cores, 45 minutes. A few hundred steps must do: LARC moves a layer by 0.1% of its length
# times the learning rate a step, so rates are higher than the recipe's; projections are centred,
# since a random encoder's all point one way, and SwAV's prototypes stay as they were drawn, since
# they would all become one; two crops that show a good part of the cell.
SMALL = Budget(
    ssl_folds=(0,),
    simclr="--image-size 72 --batch-size 256 --epochs 4 --lr 4 --min-scale 0.4",
    swav=(
        "--image-size 72 --local-crops 0 --split-scale 0.4 --batch-size 128 --epochs 5 --lr 8 "
        "--warmup 0.1 --temperature 0.2 --epsilon 0.02 --freeze 5 --queue-length 0 "
        "--head-output-norm"
    ),
    dino=(
        "--image-size 72 --local-crops 0 --split-scale 0.4 --batch-size 128 --epochs 4 "
        "--lr 0.01 --ema 0.99 --outputs 512 --first-teacher-temperature 0.03 "
        "--teacher-temperature 0.03 --head-batch-norm --head-output-norm"
    ),
    supervised=(
        "--architecture resnet18 --image-size 96 --batch-size 64 --epochs 5 --lr 0.03 --jitter 0.4"
    ),
    image_size_px=96,
    maps="--epochs 15",
    giga="--epochs 300",
    probe="--draws 2",
    stress="--max-cells 30",
    mil="--names musk1 --partitions 1",
)
# One accelerator, an hour or two.
MEDIUM = Budget(
    simclr="--epochs 60 --min-scale 0.2",
    swav="--epochs 40",
    dino="--epochs 40",
    supervised="--epochs 20",
    stress="--max-cells 100",
)
FULL = Budget()
BUDGETS: Mapping[str, Budget] = MappingProxyType({"small": SMALL, "medium": MEDIUM, "full": FULL})
