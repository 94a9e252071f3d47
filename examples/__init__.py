"""What the toolkit does, shown on a machine that has nothing but Python."""
