"""Which address next: pure functions over pools."""
