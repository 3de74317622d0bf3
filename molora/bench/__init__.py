"""What a mixture of LoRA experts costs, beside its base and beside other ways to run it: `python -m molora.bench`.

One process, but for llama.cpp's own, the same weights and prompts for all systems, turns taken, medians of ratios
within a round.
"""
