"""What the standard library lacks; knows no networking."""
