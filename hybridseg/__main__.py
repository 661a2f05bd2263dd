"""`python -m hybridseg`."""

import sys

from hybridseg.cli import main

sys.exit(main())
