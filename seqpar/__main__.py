"""`python -m seqpar`, the same as the `seqpar` command."""

import sys

from seqpar.commands import main

sys.exit(main(program="python -m seqpar"))
