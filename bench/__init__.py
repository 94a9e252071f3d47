"""What the project promises about speed, measured as ratios within one run. `make bench` runs everything here."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as on the command line: threads that wait do not spin
