"""Attack plug-ins and the frame that judges them."""
