"""What a service means: which address is whose, and who stands behind it. Pure, over the model."""
