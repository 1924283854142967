"""`scripts/` is no package: what is in it imports as the scripts themselves do."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts"))
