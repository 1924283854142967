"""Commands for those who check others' work: case files and calibration."""
