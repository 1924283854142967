"""`scripts/` is no package: what is in it imports as the scripts themselves do."""

from __future__ import annotations

import sys

from tests.paths import SCRIPTS

sys.path.insert(0, str(SCRIPTS))
