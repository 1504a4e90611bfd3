"""The CNI plugin and its installation."""
