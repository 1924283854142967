"""Commands of whoever checks others' work: case files and calibration."""
