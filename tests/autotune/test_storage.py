"""Where searches meet: files, databases and servers, each opened from one word, or with a word on what is missing."""

import builtins
import logging
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest

from seqpar.errors import MissingExtraError, OptionError
from seqpar_autotune import storage as storages
from seqpar_autotune.storage import open_storage, quiet


def without(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As if a package were not installed."""
    real = builtins.__import__

    def importing(wanted, *rest):
        if wanted.split(".")[0] == name:
            raise ImportError(f"No module named {name!r}")
        return real(wanted, *rest)

    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", importing)


def test_a_file_is_a_journal(tmp_path: Path) -> None:
    for given in (tmp_path / "journal.log", str(tmp_path / "journal.log")):
        assert isinstance(open_storage(given), optuna.storages.JournalStorage)


def test_a_journal_whose_writer_was_killed_in_a_line_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    optuna.create_study(study_name="kept", storage=open_storage(path))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":0,"worker_id":"of the one that was')
    assert [study.study_name for study in open_storage(path).get_all_studies()] == ["kept"]
    assert path.read_bytes() == whole
    optuna.create_study(study_name="new", storage=open_storage(path))
    assert len(open_storage(path).get_all_studies()) == 2


@pytest.mark.parametrize("text", ["my diary\n", '{"a": 1}\n', "[]\n", "\n"])
def test_what_is_no_journal_is_named_and_stays_as_it_is(text: str, tmp_path: Path) -> None:
    path = tmp_path / "diary.txt"
    path.write_text(text)
    with pytest.raises(OptionError, match=r"diary.txt' is no journal"):
        open_storage(path)
    with pytest.raises(OptionError, match="is no journal"):
        open_storage(tmp_path)
    assert path.read_text() == text


def test_none_and_storages_are_taken_as_they_are() -> None:
    memory = optuna.storages.InMemoryStorage()
    assert open_storage(memory) is memory
    assert open_storage(None) is None


def test_a_file_in_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"nowhere/journal.log' is in no folder. Make .*nowhere first"):
        open_storage(tmp_path / "nowhere" / "journal.log")


@pytest.mark.parametrize("url", ["grpc://machine", "grpc://:13000", "grpc://machine:port"])
def test_a_server_without_host_or_port_is_named(url: str) -> None:
    with pytest.raises(OptionError, match="names no host and port. Write grpc://host:13000"):
        open_storage(url)


def test_a_server_needs_grpc_and_the_pip_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def proxy(**given: object) -> None:
        raise ImportError("No module named 'grpc'")

    monkeypatch.setattr(optuna.storages, "GrpcStorageProxy", proxy)
    with pytest.raises(MissingExtraError, match="pip install grpcio protobuf"):
        open_storage("grpc://localhost:13000")


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Proxy:
        def __init__(self, *, host: str, port: int) -> None:
            assert (host, port) == ("localhost", 13000)

        def wait_server_ready(self, timeout: float) -> None:
            raise ConnectionError("GRPC connection timeout")

    monkeypatch.setattr(optuna.storages, "GrpcStorageProxy", Proxy)
    with pytest.raises(OptionError, match=r"grpc://localhost:13000' does not answer within 10 s"):
        open_storage("grpc://localhost:13000")


@pytest.mark.skipif(
    find_spec("grpc") is None, reason="needs a server, and grpcio is no dependency of any extra"
)
def test_a_search_through_a_server_and_then_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    from landscapes import Machine, ladder
    from seqpar_autotune.search import search

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    url = f"grpc://localhost:{port}"
    program = (
        "import optuna; from seqpar_autotune.storage import open_storage; "
        f"optuna.storages.run_grpc_proxy_server(open_storage({str(tmp_path / 'journal.log')!r}), host='localhost', port={port})"
    )
    server = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    try:
        monkeypatch.setattr(storages, "PATIENCE", 60.0)
        landscape = ladder(8, [1.0, 0.9, 0.8, 0.7, 0.6, 0.7, 0.8, 0.9])
        machine = Machine(landscape, 0)
        outcome = search(landscape.space, machine, storage=url, clock=machine.now)
        assert outcome.choice.config == {"k": 4}
    finally:
        server.terminate()
        server.wait()
    monkeypatch.setattr(storages, "PATIENCE", 0.2)
    with pytest.raises(OptionError, match="does not answer"):
        open_storage(url)


def test_a_database_is_opened_by_its_url(tmp_path: Path) -> None:
    assert isinstance(open_storage(f"sqlite:///{tmp_path}/study.db"), optuna.storages.RDBStorage)


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"nowhere/study.db' cannot be opened \(OperationalError"):
        open_storage(f"sqlite:///{tmp_path}/nowhere/study.db")
    with pytest.raises(OptionError, match="cannot be opened"):
        open_storage("nothing://of/the/kind")


def test_without_optuna_the_pip_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from landscapes import Machine, ladder
    from seqpar_autotune.search import search

    without(monkeypatch, "optuna")
    landscape = ladder(3, [1.0, 0.9, 0.8])
    with pytest.raises(MissingExtraError, match=r"pip install 'seqpar\[autotune\]'"):
        search(landscape.space, Machine(landscape, 0))


def test_importing_the_search_does_not_load_optuna() -> None:
    program = (
        "import sys, seqpar_autotune.search, seqpar_autotune.sampling; sys.exit('optuna' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_quiet_hides_only_what_is_expected_and_leaves_the_log_as_it_was() -> None:
    log = logging.getLogger("optuna")
    before = log.level
    with quiet():
        assert log.level == logging.WARNING
        optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True)
        with pytest.warns(UserWarning, match="another thing"):
            warnings.warn("another thing", UserWarning, stacklevel=1)
    assert log.level == before
