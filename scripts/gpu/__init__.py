"""The parts of gpu_report.py: the stages, the programs that they start, and the findings that both write."""
