"""``python -m eqlib.models.graphs.brec``."""

import sys

from eqlib.models.graphs.brec.command import main

if __name__ == "__main__":
    sys.exit(main())
