"""`python -m seqpar_autotune ...` is `seqpar autotune ...`, for where the command is not on the path."""

import sys

from seqpar.commands import main

if __name__ == "__main__":
    sys.exit(main(["autotune", *sys.argv[1:]], program="seqpar"))
