"""Tables, curves, leaderboard and HTML page, made from results alone."""
