"""Let ``python -m insphere`` do what ``insphere`` does."""

import sys

from insphere.cli import main

if __name__ == "__main__":
    sys.exit(main())
