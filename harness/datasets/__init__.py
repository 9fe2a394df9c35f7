"""Data-set plug-ins: streamed, checked, hashed splits of RGB images."""
