"""What `python -m molora.train` is made of: sources and examples, losses, the Trainer, baselines, the card."""
