"""``python -m ctsa.cli``."""

import sys

from ctsa.cli import main

if __name__ == "__main__":
    sys.exit(main())
