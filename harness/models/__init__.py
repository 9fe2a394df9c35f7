"""Model plug-ins: timm names and factories, wrapped as `Classifier`, and their weight files."""
