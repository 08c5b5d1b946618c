"""The `eqlib` command, as `python -m eqlib`."""

import sys

from eqlib.cli import main

sys.exit(main())
