"""Published benchmarks for lm-evaluation-harness: our YAML, the readers of the authors' files, the metrics.

`python -m molora.evaluation.harness` runs them; README.md here says which file each one reads and how it is scored.
"""
