"""`python -m cli`: the same command where the console script is not installed (torchrun)."""

import sys

from cli.main import main

sys.exit(main())
