"""Where objects live: one small interface, several stores behind it."""
