"""Benchmark image classifiers against evasion, poisoning and corruption, and prove the deployed model is the measured one."""
