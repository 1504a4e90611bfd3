"""``python -m fairlead.agent``: one agent in the foreground."""

from __future__ import annotations

import sys

from .main import main

sys.exit(main())
