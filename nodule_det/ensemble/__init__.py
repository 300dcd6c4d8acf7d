"""Several networks as one model: its folder, its members' mean probability, its calibration."""
