"""Charts and curves, as SVG and PNG."""
