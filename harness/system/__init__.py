"""What the machine and PyTorch need: modes, memory, precision, seeds, signals, progress."""
