"""What torch.compile does not read. Imported only while it compiles: the mark loads the compiler, which takes a second."""

from collections.abc import Callable
from typing import Any

import torch


@torch.compiler.disable  # type: ignore[untyped-decorator]
def call(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a function between two graphs."""
    return function(**arguments)
