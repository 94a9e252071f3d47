"""What the project promises about speed, measured as ratios within one run. `make bench` runs everything here."""
