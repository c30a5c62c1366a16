"""The methods by name."""

from aml_mil.ssl.config import PretrainConfig
from aml_mil.ssl.dino import Dino, DinoConfig
from aml_mil.ssl.method import Method, RunLength
from aml_mil.ssl.simclr import Simclr, SimclrConfig
from aml_mil.ssl.supervised import Supervised, SupervisedConfig
from aml_mil.ssl.swav import Swav, SwavConfig

CONFIGS: dict[str, type[PretrainConfig]] = {
    "simclr": SimclrConfig,
    "swav": SwavConfig,
    "dino": DinoConfig,
    "supervised": SupervisedConfig,
}


def method_name(config: PretrainConfig) -> str:
    """Name the method that a config belongs to."""
    return next(name for name, kind in CONFIGS.items() if type(config) is kind)


def build_method(config: PretrainConfig, length: RunLength, *, num_types: int) -> Method:
    """Create a method with random weights, drawn from torch's global generator.

    Args:
        config: Its settings, which decide the method.
        length: Of the run.
        num_types: Cell types, for supervised training.

    Returns:
        The method, in training mode.

    Raises:
        TypeError: No method has such a config.
    """
    match config:
        case SimclrConfig():
            return Simclr(config, length)
        case SwavConfig():
            return Swav(config, length)
        case DinoConfig():
            return Dino(config, length)
        case SupervisedConfig():
            return Supervised(config, length, num_types=num_types)
        case _:
            raise TypeError(f"expected the config of a method, got {type(config).__name__}")
