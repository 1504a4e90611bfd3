"""``fairlead cni``: the CNI plugins where runtimes look for them."""

from __future__ import annotations

import typer

app = typer.Typer(rich_markup_mode="rich")
plugins = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
app.add_typer(plugins, name="cni", help="Install the CNI plugins for container runtimes.", rich_help_panel="Networks")
