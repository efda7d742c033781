"""Where several processes or machines meet to search one space together: a storage of Optuna's, opened from one word.

Such a storage is what is left of one tuning run, for joining it, going on with it, or looking at it with
optuna-dashboard. It is not the store that calls look into.
"""

import contextlib
import json
import logging
import os
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqpar.errors import MissingExtraError, OptionError

PATIENCE = 10.0
"""Seconds that a server has to answer."""


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
    since become its defaults. The proxy for gRPC is experimental too. Other warnings come through.
    """
    experimental = optuna().exceptions.ExperimentalWarning
    log = logging.getLogger("optuna")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for name in ("group", "multivariate", "constant_liar", "GrpcStorageProxy"):
                warnings.filterwarnings("ignore", f".*{name}.*experimental", experimental)
            yield
    finally:
        log.setLevel(before)


def open_storage(given: Any) -> Any:
    """A storage from a file (Optuna's journal), a URL of a database, or "grpc://host:port" of Optuna's proxy; or as given."""
    if isinstance(given, Path) or (isinstance(given, str) and "://" not in given):
        return _journal(Path(given))
    if isinstance(given, str) and given.startswith("grpc://"):
        return _proxy(given)
    return _database(given) if isinstance(given, str) else given


def _journal(path: Path) -> Any:
    storages = optuna().storages
    if not path.parent.is_dir():
        raise OptionError(f"search: storage={str(path)!r} is in no folder. Make {path.parent} first.")
    try:
        _mend(path)
        return storages.JournalStorage(storages.journal.JournalFileBackend(str(path)))
    except Exception as error:  # lines that are no JSON, or JSON of something else; a folder; no permission
        raise OptionError(
            f"search: storage={str(path)!r} is no journal of Optuna's ({type(error).__name__}: {error}). Name another file."
        ) from error


def _mend(path: Path) -> None:
    """Cut off a last line without an end, as a process leaves it that is killed: Optuna would never read that file again.

    Raises where the first line is none of a journal's: a line behind it would do harm to what that file is.
    """
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        _ = json.loads(file.readline())["op_code"]
    if _whole(path):
        return
    lock = optuna().storages.journal.JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        # Nobody is writing now.
        if not _whole(path):
            text = path.read_bytes()
            os.truncate(path, text.rfind(b"\n") + 1)
    finally:
        lock.release()


def _whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _proxy(url: str) -> Any:
    host, _, port = url.removeprefix("grpc://").rpartition(":")
    if not host or not port.isdecimal():
        raise OptionError(f"search: storage={url!r} names no host and port. Write grpc://host:13000.")
    try:
        with quiet():
            proxy = optuna().storages.GrpcStorageProxy(host=host, port=int(port))
    except ImportError as error:
        raise MissingExtraError(
            f"search: storage={url!r} needs gRPC ({error}). Install it with: pip install grpcio protobuf"
        ) from None
    try:
        proxy.wait_server_ready(timeout=PATIENCE)
    except ConnectionError:
        raise OptionError(
            f"search: storage={url!r} does not answer within {PATIENCE:g} s. Start optuna.storages.run_grpc_proxy_server "
            "there, or name another host and port."
        ) from None
    return proxy


def _database(url: str) -> Any:
    try:
        return optuna().storages.RDBStorage(url)
    except ImportError as error:
        raise MissingExtraError(
            f"search: storage={url!r} needs the driver of its database ({error}). Install it, or name a file."
        ) from None
    except Exception as error:  # SQLAlchemy's and the driver's own kinds
        raise OptionError(
            f"search: storage={url!r} cannot be opened ({type(error).__name__}: {error}). Name a file, or a database that "
            "answers."
        ) from error
