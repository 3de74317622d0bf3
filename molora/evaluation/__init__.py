"""What `python -m molora.evaluate` is made of: systems, their answers, scores and intervals, published benchmarks."""
