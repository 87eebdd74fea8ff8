"""`python -m unetcu` is the command line, as `unetcu` is."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
