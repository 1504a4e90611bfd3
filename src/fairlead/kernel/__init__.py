"""The only code that speaks to Linux. It knows links, routes and sets, never containers."""
