"""Operations of eqlib timed against their alternatives; `python benchmarks/run.py --list`."""
