"""Two runs compared example by example: which numbers changed, and whether that may be chance."""
