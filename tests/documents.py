"""The examples in the documents, as code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def python_examples(name: str) -> list[str]:
    """Return the Python blocks of a document, in their order."""
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), flags=re.DOTALL)
