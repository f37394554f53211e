"""`python -m cm3leon_jax` is the command `cm3leon`."""

import sys

from cm3leon_jax.cli import main

sys.exit(main())
