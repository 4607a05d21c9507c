"""`python -m coremlops` is `coremlops`."""

import sys

from coremlops.cli import main

sys.exit(main())
