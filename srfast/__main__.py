"""``python -m srfast``."""

import sys

from srfast.cli import main

sys.exit(main())
