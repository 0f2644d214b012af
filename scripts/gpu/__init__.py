"""The parts of gpu_report.py: stages, the programs that they start, and what both write findings with."""
