"""The `seqpar` command. Its subcommands come through the entry-point group "seqpar.commands", ours and others' alike.

An entry point names a `Command`. Only the one that was asked for is imported, so `seqpar demo` pays for nothing else.
"""

import argparse
import difflib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from seqpar.errors import SeqparError

GROUP = "seqpar.commands"

NOT_FOUND = 2
"""Exit status for a command line that names nothing to run, as argparse has it."""


class Command(Protocol):
    """One subcommand."""

    name: str
    help: str
    """One line for `seqpar --help`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's own arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; the result is the exit status."""


def main(argv: Sequence[str] | None = None, program: str = "seqpar") -> int:
    """Run `seqpar <command> ...` and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    entries = _entry_points()
    if words and not words[0].startswith("-"):
        return _run(program, words[0], words[1:], entries)
    parser = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} <command> [options]",
        description="Sequence computation parallel over time, in any array framework.",
        epilog=_listing(entries),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"seqpar {_version()}")
    parser.parse_args(words)
    parser.print_help()
    return 0 if words else NOT_FOUND


def _run(
    program: str, name: str, words: Sequence[str], entries: dict[str, importlib.metadata.EntryPoint]
) -> int:
    if name not in entries:
        print(_unknown(program, name, entries), file=sys.stderr)
        return NOT_FOUND
    try:
        command: Command = entries[name].load()
    except Exception as error:
        print(f"{program} {name}: {entries[name].value} does not load: {error!r}", file=sys.stderr)
        return 1
    parser = argparse.ArgumentParser(prog=f"{program} {name}", description=command.help)
    command.arguments(parser)
    args = parser.parse_args(words)
    try:
        status = command.run(args)
        sys.stdout.flush()
        return status
    except SeqparError as error:
        # Messages of a command may begin with its name.
        print(f"{program} {name}: {str(error).removeprefix(f'{name}: ')}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read has enough, and Python would complain once more when it closes the output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    # From the repository root the source folder and the installed metadata both answer: one entry per name.
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}


def _listing(entries: dict[str, importlib.metadata.EntryPoint]) -> str:
    if not entries:
        return _none_installed()
    lines = ["commands:"]
    for name, entry in sorted(entries.items()):
        try:
            lines.append(f"  {name:<12} {entry.load().help}")
        except Exception as error:
            lines.append(f"  {name:<12} (does not load: {error!r})")
    return "\n".join(lines)


def _unknown(program: str, name: str, entries: dict[str, importlib.metadata.EntryPoint]) -> str:
    if not entries:
        return f"{program}: {name!r}: {_none_installed()}"
    near = difflib.get_close_matches(name, entries, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{program}: {name!r} is not one of the commands {', '.join(map(repr, sorted(entries)))}.{hint}"


def _none_installed() -> str:
    return "no command is installed. Run `pip install .` in the repository (or `pip install seqpar`)."


def _version() -> str:
    from seqpar import __version__

    return __version__
