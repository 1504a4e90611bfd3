"""``python -m fairlead.cli``: the command line where the package is not installed."""

from __future__ import annotations

from .main import main

main()
