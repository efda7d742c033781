"""Where several processes or machines meet to search one space together: a storage of Optuna's, opened from one word.

Such a storage is what is left of one tuning run, for joining it, going on with it, or looking at it with
optuna-dashboard. It is not the store that calls look into.
"""

import contextlib
import logging
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqpar.errors import MissingExtraError, OptionError


def optuna() -> types.ModuleType:
    """The module, loaded when something is tuned, never by `import seqpar`."""
    try:
        import optuna as module
    except ImportError as error:
        raise MissingExtraError(
            f"search: Optuna is not installed ({error}), and it chooses what is measured next. "
            "Install it with: pip install 'seqpar[autotune]'"
        ) from None
    return module


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's line per trial, and without its word that TPE for methods with knobs of their own is experimental.

    `TPESampler(group=True)` may change or go: without it, knobs that only some methods have are sampled each on its own, so
    that a search is slower and nothing else. In Optuna 4 two more of its arguments are called experimental, which have
    since become its defaults. Everything else used here is stable API. Other warnings come through.
    """
    module = optuna()
    log = logging.getLogger("optuna")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=".*(group|multivariate|constant_liar).*experimental", category=module.exceptions.ExperimentalWarning
            )
            yield
    finally:
        log.setLevel(before)


def open_storage(given: Any) -> Any:
    """A storage from a file (Optuna's journal), a URL of a database, or "grpc://host:port" of Optuna's proxy; or as given."""
    module = optuna()
    if isinstance(given, Path) or (isinstance(given, str) and "://" not in given):
        path = Path(given)
        if not path.parent.is_dir():
            raise OptionError(f"search: storage={str(given)!r} is in no folder. Make {path.parent} first.")
        journal = module.storages.journal
        return module.storages.JournalStorage(journal.JournalFileBackend(str(path)))
    if isinstance(given, str) and given.startswith("grpc://"):
        host, _, port = given.removeprefix("grpc://").rpartition(":")
        if not host or not port.isdecimal():
            raise OptionError(f"search: storage={given!r} names no host and port. Write grpc://host:13000.")
        try:
            return module.storages.GrpcStorageProxy(host=host, port=int(port))
        except ImportError as error:
            raise MissingExtraError(
                f"search: storage={given!r} needs gRPC ({error}). Install it with: pip install grpcio protobuf"
            ) from None
    return given
