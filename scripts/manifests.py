"""Write deploy/kubernetes/fairlead.yaml: all of the base in one file, for kubectl apply and nothing else.

    .venv/bin/python scripts/manifests.py

It is what ``kubectl kustomize deploy/kubernetes/base`` prints, in the order in which a cluster needs it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent.parent / "deploy/kubernetes"
TARGET = FOLDER / "fairlead.yaml"


def text() -> str:
    """The whole file."""
    names = yaml.safe_load((FOLDER / "base/kustomization.yaml").read_text())["resources"]
    parts = [(FOLDER / "base" / name).read_text().strip() for name in names]
    head = "# Fairlead on a Kubernetes cluster: kubectl apply --server-side -f fairlead.yaml\n"
    return head + "# Written by scripts/manifests.py from base/; do not edit.\n---\n" + "\n---\n".join(parts) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
    print(TARGET, file=sys.stderr)  # noqa: T201  # for the one who started it
